-- Access policies: who may use which feature when, and what was refused.

ALTER TABLE enterprises
    ADD policy_default text NOT NULL DEFAULT 'PERMIT' CHECK (policy_default IN ('PERMIT', 'FORBID'));   -- when no policy says anything

CREATE TABLE policies (
    enterprise_id uuid        NOT NULL,
    policy_id     uuid        NOT NULL,              -- UUIDv7: policies are listed as they were made
    name          text        NOT NULL,
    effect        text        NOT NULL CHECK (effect IN ('PERMIT', 'FORBID')),
    document      jsonb       NOT NULL,              -- principals, features, actions, conditions; see PolicyDocument
    status        text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    version       int         NOT NULL,              -- raised by every change
    created_by    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, policy_id)
);

-- Every version there ever was, so that a refusal can be explained after the policy has changed or gone.
CREATE TABLE policy_versions (
    enterprise_id uuid        NOT NULL,
    policy_id     uuid        NOT NULL,
    version       int         NOT NULL,
    change        text        NOT NULL CHECK (change IN ('CREATED', 'CHANGED', 'DELETED')),
    name          text        NOT NULL,
    effect        text        NOT NULL,
    document      jsonb       NOT NULL,
    status        text        NOT NULL,
    changed_by    uuid        NOT NULL,
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, policy_id, version)
);

-- What was refused: asked in advance (CHECK), or sent as an event (INGEST), which is then kept here and nowhere else.
CREATE TABLE decisions (
    enterprise_id   uuid        NOT NULL,
    receipt_id      uuid        NOT NULL,            -- UUIDv7 of decided_at, so that the one finds the other's partition
    decided_at      timestamptz NOT NULL,            -- to the millisecond
    source          text        NOT NULL CHECK (source IN ('CHECK', 'INGEST')),
    code            text        NOT NULL,            -- policy_forbidden, policy_default
    user_id         uuid        NOT NULL,
    external_id     bytea,                           -- sealed with the data key; whoever is refused may be nobody else's row
    api_key_id      uuid,                            -- the key that sent or asked; null for a person
    feature_name    text        NOT NULL,
    event_type      text        NOT NULL,
    action          text        NOT NULL CHECK (action IN ('check', 'record')),
    policy_id       uuid,                            -- null: no policy said anything, and the default is FORBID
    policy_version  int,
    event_id        uuid,
    event_timestamp timestamptz,
    log_partition   smallint,                        -- with segment_offset and segment_slot: where the event's properties are
    segment_offset  bigint,
    segment_slot    int,
    PRIMARY KEY (enterprise_id, decided_at, receipt_id),
    CHECK ((policy_id IS NULL) = (policy_version IS NULL)),
    CHECK ((source = 'INGEST') = (event_id IS NOT NULL AND event_timestamp IS NOT NULL AND log_partition IS NOT NULL
        AND segment_offset IS NOT NULL AND segment_slot IS NOT NULL))
) PARTITION BY RANGE (decided_at);
CREATE INDEX decisions_of_user ON decisions (enterprise_id, user_id, decided_at);
CREATE INDEX decisions_of_feature ON decisions (enterprise_id, feature_name, decided_at);

-- received = accepted + rejected + blocked; accepted = stored + duplicate, and what the log still holds is pending.
ALTER TABLE usage_ledger
    ADD blocked bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT usage_ledger_check,
    ADD CONSTRAINT usage_ledger_check CHECK (received = accepted + rejected + blocked AND accepted = stored + duplicate);

-- As in 0001, with decisions.
CREATE OR REPLACE FUNCTION ensure_month_partition(parent text, any_day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    month_start date := date_trunc('month', any_day)::date;
    month_end   date := (date_trunc('month', any_day) + interval '1 month')::date;
    leaf        text := format('%s_%s', parent, to_char(month_start, 'YYYY_MM'));
BEGIN
    IF parent NOT IN ('log_segments', 'usage_events', 'usage_aggregates', 'user_usage_aggregates', 'active_user_sets', 'usage_ledger',
        'decisions') THEN
        RAISE EXCEPTION 'not a table partitioned by month: %', parent;
    END IF;
    IF to_regclass(leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The lock of ATTACH, taken early. A relation's lock, because that also makes this session notice what others have
    -- created meanwhile: behind an advisory lock, to_regclass would answer from its cache that there is no such table.
    EXECUTE format('LOCK TABLE %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
    IF to_regclass(leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', leaf, parent);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', leaf);
    IF parent = 'usage_events' THEN
        EXECUTE format('CREATE UNIQUE INDEX %I ON %I (enterprise_id, event_id)', leaf || '_id', leaf);
    ELSIF parent NOT IN ('log_segments', 'decisions') THEN
        EXECUTE format('ALTER TABLE %I SET (fillfactor = 85)', leaf);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, leaf,
        month_start::text || ' 00:00:00Z', month_end::text || ' 00:00:00Z');
    RETURN true;
END $$;

SELECT wall_in(tenant_table) FROM unnest(ARRAY['policies', 'policy_versions', 'decisions']) AS tenant_table;

-- Processing writes what was refused of the events of all enterprises, and reads none of it.
CREATE POLICY pipeline ON decisions FOR INSERT TO usage_monitor_pipeline WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON policies TO usage_monitor_app;
GRANT SELECT, INSERT ON policy_versions, decisions TO usage_monitor_app;
GRANT INSERT ON decisions TO usage_monitor_pipeline;
