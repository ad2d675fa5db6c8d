-- The audit log: who did what, chained so that nobody can change it unnoticed, whatever rights they have here.

-- An entry's hash is SHA-256 of the hash before it (32 zero bytes before the first) and the entry as canonical JSON (RFC 8785); see
-- AuditChain. What was changed, and from which address, is sealed with the enterprise's data key: the chain holds only the SHA-256 of
-- a random salt and that content, so that it can still be followed when the key has been destroyed.
CREATE TABLE audit_log (
    enterprise_id uuid        NOT NULL,              -- nil: the platform's own chain
    sequence      bigint      NOT NULL,              -- 1, 2, … without a gap
    occurred_at   timestamptz NOT NULL,
    action        text        NOT NULL,              -- what was done: api_key.created
    outcome       text        NOT NULL CHECK (outcome IN ('DONE', 'FAILED', 'REFUSED')),
    actor_kind    text        NOT NULL CHECK (actor_kind IN ('USER', 'API_KEY', 'SYSTEM', 'ANONYMOUS')),
    actor_id      uuid,                              -- never an address or a name: whoever is erased leaves a pseudonym
    target_kind   text,
    target_id     text,
    request_id    text,
    trace_id      text,
    content_hash  bytea       NOT NULL,
    content       bytea       NOT NULL,              -- salt (16) and canonical JSON, sealed
    previous_hash bytea       NOT NULL,
    hash          bytea       NOT NULL,
    PRIMARY KEY (enterprise_id, sequence, occurred_at)
) PARTITION BY RANGE (occurred_at);
ALTER TABLE audit_log ALTER content SET STORAGE EXTERNAL;
CREATE INDEX audit_log_of_actor ON audit_log (enterprise_id, actor_id, sequence);
CREATE INDEX audit_log_of_target ON audit_log (enterprise_id, target_id, sequence);

-- Where each chain ends. Appending holds the row until it commits: sequences are dense and become visible in their order.
CREATE TABLE audit_heads (
    enterprise_id uuid   PRIMARY KEY,
    sequence      bigint NOT NULL,
    hash          bytea  NOT NULL
) WITH (fillfactor = 50);

-- A signed statement of how far a chain went and what its last hash was: whoever keeps one sees an end that was cut off.
CREATE TABLE audit_checkpoints (
    enterprise_id uuid        NOT NULL,
    sequence      bigint      NOT NULL,
    signed_at     timestamptz NOT NULL,
    hash          bytea       NOT NULL,
    key_id        text        NOT NULL,
    signature     text        NOT NULL,              -- JWS, compact, ES256
    PRIMARY KEY (enterprise_id, sequence, signed_at)
);

-- The public halves of keys that have signed checkpoints, which outlive the keys themselves.
CREATE TABLE audit_signing_keys (
    key_id   text        PRIMARY KEY,
    jwk      text        NOT NULL,
    first_at timestamptz NOT NULL
);

-- Where entries are streamed to. cursor_sequence is the last entry that the destination has taken.
CREATE TABLE audit_destinations (
    enterprise_id   uuid        NOT NULL,
    destination_id  uuid        NOT NULL,
    name            text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('WEBHOOK', 'SYSLOG')),
    settings        bytea       NOT NULL,            -- address, secret and trusted certificate as JSON, sealed with the data key
    status          text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    cursor_sequence bigint      NOT NULL DEFAULT 0,
    replays         int         NOT NULL DEFAULT 0,  -- raised by every replay, so that a sending under way does not undo it
    failures        int         NOT NULL DEFAULT 0,  -- in a row
    last_error      text,
    next_attempt_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, destination_id)
);

SELECT wall_in(tenant_table) FROM unnest(ARRAY['audit_log', 'audit_heads', 'audit_checkpoints', 'audit_destinations']) AS tenant_table;
CREATE POLICY pipeline ON audit_log FOR SELECT TO usage_monitor_pipeline USING (true);
CREATE POLICY pipeline ON audit_heads FOR SELECT TO usage_monitor_pipeline USING (true);
CREATE POLICY pipeline ON audit_checkpoints FOR SELECT TO usage_monitor_pipeline USING (true);
CREATE POLICY pipeline ON audit_destinations TO usage_monitor_pipeline USING (true) WITH CHECK (true);

-- The only way to write an entry, for both logins: with its owner's rights, but within the enterprise in scope. Neither login may
-- insert, change or delete an entry or a head in any other way.
CREATE POLICY append ON audit_log TO CURRENT_USER
    USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()));
CREATE POLICY append ON audit_heads TO CURRENT_USER
    USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()));

-- What is hashed is put together here, because only here is the sequence known: the canonical JSON up to it, itself, and the rest.
-- Called as the last statement of a transaction, so that the head is held no longer than the commit takes.
CREATE FUNCTION append_audit(
    enterprise uuid, at timestamptz, act text, result text, kind_of_actor text, actor uuid, kind_of_target text, target text,
    request text, trace text, hash_of_content bytea, sealed_content bytea, json_before text, json_after text, only_if_written boolean
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    head_sequence bigint;
    head_hash     bytea;
    next_hash     bytea;
BEGIN
    IF only_if_written AND pg_current_xact_id_if_assigned() IS NULL THEN
        RETURN NULL;
    END IF;
    IF enterprise IS DISTINCT FROM current_enterprise() THEN
        RAISE EXCEPTION 'an entry of an enterprise that is not in scope';
    END IF;
    SELECT h.sequence, h.hash INTO head_sequence, head_hash FROM audit_heads h WHERE h.enterprise_id = enterprise FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO audit_heads (enterprise_id, sequence, hash) VALUES (enterprise, 0, decode(repeat('00', 32), 'hex'))
            ON CONFLICT DO NOTHING;
        SELECT h.sequence, h.hash INTO head_sequence, head_hash FROM audit_heads h WHERE h.enterprise_id = enterprise FOR UPDATE;
    END IF;
    head_sequence := head_sequence + 1;
    next_hash := sha256(head_hash || convert_to(json_before || head_sequence::text || json_after, 'UTF8'));
    INSERT INTO audit_log (enterprise_id, sequence, occurred_at, action, outcome, actor_kind, actor_id, target_kind, target_id,
        request_id, trace_id, content_hash, content, previous_hash, hash)
    VALUES (enterprise, head_sequence, at, act, result, kind_of_actor, actor, kind_of_target, target,
        request, trace, hash_of_content, sealed_content, head_hash, next_hash);
    UPDATE audit_heads h SET sequence = head_sequence, hash = next_hash WHERE h.enterprise_id = enterprise;
    RETURN head_sequence;
END $$;
REVOKE ALL ON FUNCTION append_audit(uuid, timestamptz, text, text, text, uuid, text, text, text, text, bytea, bytea, text, text, boolean)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit(uuid, timestamptz, text, text, text, uuid, text, text, text, text, bytea, bytea, text, text, boolean)
    TO usage_monitor_app, usage_monitor_pipeline;

GRANT SELECT ON audit_log, audit_heads TO usage_monitor_app, usage_monitor_pipeline;
GRANT SELECT ON audit_checkpoints TO usage_monitor_pipeline;
GRANT SELECT, INSERT ON audit_checkpoints, audit_signing_keys TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON audit_destinations TO usage_monitor_app;
GRANT SELECT, UPDATE ON audit_destinations TO usage_monitor_pipeline;

INSERT INTO permissions (permission, description) VALUES
    ('audit:read',   'Read the audit log and check its chain'),
    ('audit:export', 'Export the audit log'),
    ('audit:write',  'Sign checkpoints and stream the audit log to other systems');
