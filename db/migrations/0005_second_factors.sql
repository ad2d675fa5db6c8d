-- Second factors: one-time codes, recovery codes and passkeys, and how often somebody may try them.

ALTER TABLE sessions
    DROP CONSTRAINT sessions_method_check,
    ADD CONSTRAINT sessions_method_check CHECK (method IN ('password', 'sso', 'passkey')),
    ADD proven_at timestamptz;                       -- when the person last showed who they are; null: not since a factor changed

-- One authenticator app a person. A new secret waits beside the old one until a code of it has been shown.
CREATE TABLE totp_secrets (
    enterprise_id uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    secret        bytea,                             -- sealed with the data key; null while the first one waits
    confirmed_at  timestamptz,
    last_step     bigint      NOT NULL DEFAULT 0,    -- of 30 s since 1970; a step is accepted once
    pending       bytea,                             -- sealed with the data key
    pending_since timestamptz,
    PRIMARY KEY (enterprise_id, user_id)
);

CREATE TABLE recovery_codes (
    enterprise_id uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    code_hash     bytea       NOT NULL,              -- SHA-256 of 80 random bits, with the person's id
    created_at    timestamptz NOT NULL,
    used_at       timestamptz,
    PRIMARY KEY (enterprise_id, user_id, code_hash)
);

CREATE TABLE passkeys (
    enterprise_id   uuid        NOT NULL,
    passkey_id      uuid        NOT NULL,
    user_id         uuid        NOT NULL,
    credential_id   bytea       NOT NULL UNIQUE,     -- WebAuthn: of one person only, anywhere
    public_key      bytea       NOT NULL,            -- COSE
    sign_count      bigint      NOT NULL,
    transports      text[],
    user_verified   boolean     NOT NULL,
    backup_eligible boolean     NOT NULL,
    backed_up       boolean     NOT NULL,
    name            bytea       NOT NULL,            -- sealed with the data key
    created_at      timestamptz NOT NULL,
    last_used_at    timestamptz,
    PRIMARY KEY (enterprise_id, passkey_id)
);
CREATE INDEX passkeys_of_user ON passkeys (enterprise_id, user_id);

-- Challenges are sealed texts that the client keeps. A row is made when one is first answered, so that none is good twice.
CREATE TABLE answered_challenges (
    enterprise_id uuid        NOT NULL,
    challenge_id  uuid        NOT NULL,
    expires_at    timestamptz NOT NULL,
    attempts      int         NOT NULL,
    spent_at      timestamptz,
    PRIMARY KEY (enterprise_id, challenge_id)
);
CREATE INDEX answered_challenges_expired ON answered_challenges (enterprise_id, expires_at);

-- When somebody last tried to prove that they are this person. A sliding window over all instances.
CREATE TABLE proof_attempts (
    enterprise_id uuid          NOT NULL,
    user_id       uuid          NOT NULL,
    kind          text          NOT NULL CHECK (kind IN ('sign-in', 'session')),
    attempts      timestamptz[] NOT NULL,
    PRIMARY KEY (enterprise_id, user_id, kind)
);

SELECT wall_in(tenant_table) FROM unnest(ARRAY[
    'totp_secrets', 'recovery_codes', 'passkeys', 'answered_challenges', 'proof_attempts']) AS tenant_table;
CREATE POLICY known_credential ON passkeys FOR SELECT TO usage_monitor_app USING (credential_id = (SELECT current_lookup()));

GRANT SELECT, INSERT, UPDATE, DELETE ON totp_secrets, recovery_codes, passkeys, answered_challenges, proof_attempts TO usage_monitor_app;
