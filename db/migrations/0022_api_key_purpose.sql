-- What personal data comes in for, and what allows it, per API key: the record of processing says it by the key that each event came with.
ALTER TABLE api_keys
    ADD purpose     text CHECK (length(purpose) BETWEEN 1 AND 500),
    ADD legal_basis text CHECK (legal_basis IN ('CONSENT', 'CONTRACT', 'LEGAL_OBLIGATION', 'VITAL_INTERESTS', 'PUBLIC_TASK', 'LEGITIMATE_INTERESTS'));
