-- The main path: who may call, the event log, what processing stores, and the walls between enterprises.
--
-- Two logins, made by the migrator before this file runs, neither of them owner, superuser or BYPASSRLS:
--   usage_monitor_app       answers people. It sees one enterprise at a time: the one in the transaction-local
--                           setting app.enterprise_id. Unset, it sees nothing.
--   usage_monitor_pipeline  appends to the log and processes it. It handles all enterprises, because a segment does,
--                           but holds no right on anything that people sign in with.
-- Row-level security is FORCEd, so the owner of the tables is held to it as well.

CREATE FUNCTION current_enterprise() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('app.enterprise_id', true), '')::uuid $$;

-- A credential's row may be seen by whoever already holds the hash of that credential.
CREATE FUNCTION current_lookup() RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT decode(nullif(current_setting('app.lookup', true), ''), 'hex') $$;

-- 'on' only while the platform operator lists enterprises.
CREATE FUNCTION platform_scope() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce(current_setting('app.platform', true), '') = 'on' $$;

------------------------------------------------------------------------------------------------ identity

CREATE TABLE enterprises (
    enterprise_id uuid        PRIMARY KEY,
    name          text        NOT NULL,
    time_zone     text        NOT NULL,              -- IANA name; windows and buckets follow it
    log_partition smallint    NOT NULL,              -- the event log's partition that orders this enterprise's events
    data_key      bytea       NOT NULL,              -- AES-256 key, wrapped by the master key; destroying it erases what it sealed
    status        text        NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'SUSPENDED')),
    created_at    timestamptz NOT NULL
);

-- Dense numbers for the users of an enterprise, given out under this row's lock; bitmaps of active users are over them.
CREATE TABLE user_ordinals (
    enterprise_id uuid   PRIMARY KEY,
    next_ordinal  int    NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- A person who uses features, signs in, or both.
CREATE TABLE users (
    enterprise_id uuid        NOT NULL,
    user_id       uuid        NOT NULL,              -- the caller's own UUID, or UUIDv5(enterprise_id, external id)
    ordinal       int         NOT NULL,
    external_id   bytea,                             -- the caller's own id when it is not a UUID, sealed with the data key
    email         bytea,                             -- sealed with the data key; only of people who sign in
    email_hash    bytea       UNIQUE,                -- HMAC-SHA-256 of the lower-case address: found without being read
    password_hash text,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, user_id),
    UNIQUE (enterprise_id, ordinal)
);

CREATE TABLE user_roles (
    enterprise_id uuid NOT NULL,
    user_id       uuid NOT NULL,
    role_name     text NOT NULL,
    PRIMARY KEY (enterprise_id, user_id, role_name)
);

-- One sign-in of a person, over the API or in a browser. What ends it, ends every credential that came of it.
CREATE TABLE sessions (
    enterprise_id uuid        NOT NULL,
    session_id    uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    cookie_hash   bytea       UNIQUE,                -- SHA-256 of a browser's cookie; null when signed in over the API
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    PRIMARY KEY (enterprise_id, session_id)
);

CREATE TABLE refresh_tokens (
    enterprise_id uuid        NOT NULL,
    token_hash    bytea       PRIMARY KEY,           -- SHA-256; the token itself is never kept
    session_id    uuid        NOT NULL,              -- every rotation keeps it
    issued_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz                        -- a second use means that somebody else has the token too
);

CREATE TABLE api_keys (
    enterprise_id uuid        NOT NULL,
    api_key_id    uuid        NOT NULL,
    name          text        NOT NULL,
    key_hash      bytea       NOT NULL UNIQUE,       -- SHA-256; the key itself is shown once and never kept
    scopes        text[]      NOT NULL,
    created_by    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    PRIMARY KEY (enterprise_id, api_key_id)
);

-- Keys that sign access tokens, shared by all instances; the private half is sealed by the master key.
CREATE TABLE signing_keys (
    key_id      text        PRIMARY KEY,
    private_key bytea       NOT NULL,
    created_at  timestamptz NOT NULL
);

-- Raised in the transaction of every change to identity; instances poll it and drop what they have cached.
CREATE TABLE identity_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO identity_version DEFAULT VALUES;

------------------------------------------------------------------------------------------------ the event log

-- Appending locks its partition's row until commit, so offsets are dense and a reader never sees a gap that fills later.
CREATE TABLE log_partitions (
    log_partition    smallint    PRIMARY KEY,
    next_offset      bigint      NOT NULL DEFAULT 1,
    appended_events  bigint      NOT NULL DEFAULT 0,
    last_appended_at timestamptz NOT NULL DEFAULT '2000-01-01Z'
) WITH (fillfactor = 20);

-- Only processing's transaction advances a position, together with everything it did to earn it.
CREATE TABLE log_positions (
    log_partition     smallint    PRIMARY KEY,
    segment_offset    bigint      NOT NULL DEFAULT 0,
    processed_events  bigint      NOT NULL DEFAULT 0,
    processed_through timestamptz NOT NULL DEFAULT now()            -- nothing was received before there was a log
) WITH (fillfactor = 20);

-- headers and properties are compressed and sealed per enterprise before they come here: PostgreSQL must not try again.
CREATE TABLE log_segments (
    log_partition  smallint    NOT NULL,
    segment_offset bigint      NOT NULL,
    appended_at    timestamptz NOT NULL,             -- never falls within a partition; it is its events' received_at
    event_count    int         NOT NULL,
    tallies        bytea       NOT NULL,             -- per enterprise what was received: accepted + rejected; see TallyCodec
    headers        bytea       NOT NULL,
    properties     bytea       NOT NULL,
    PRIMARY KEY (log_partition, segment_offset, appended_at)
) PARTITION BY RANGE (appended_at);
ALTER TABLE log_segments ALTER headers SET STORAGE EXTERNAL, ALTER properties SET STORAGE EXTERNAL;

------------------------------------------------------------------------------------------------ what processing stores

-- Each month's partition has its own unique index on (enterprise_id, event_id): see ensure_month_partition.
CREATE TABLE usage_events (
    enterprise_id   uuid        NOT NULL,
    event_id        uuid        NOT NULL,
    user_id         uuid        NOT NULL,
    event_timestamp timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,
    segment_offset  bigint      NOT NULL,            -- with log_partition and segment_slot: where the properties are
    segment_slot    int         NOT NULL,
    log_partition   smallint    NOT NULL,
    feature_name    text        NOT NULL,
    event_type      text        NOT NULL
) PARTITION BY RANGE (event_timestamp);

CREATE TABLE usage_aggregates (
    enterprise_id uuid        NOT NULL,
    metric_type   text        NOT NULL,              -- usage_count
    granularity   text        NOT NULL CHECK (granularity IN ('hour', 'day')),
    feature_name  text        NOT NULL,              -- '' = all features
    time_bucket   timestamptz NOT NULL,              -- the instant at which the enterprise's local hour or day begins
    value         bigint      NOT NULL,
    PRIMARY KEY (enterprise_id, metric_type, granularity, feature_name, time_bucket)
) PARTITION BY RANGE (time_bucket);

CREATE TABLE user_usage_aggregates (
    enterprise_id uuid        NOT NULL,
    user_id       uuid        NOT NULL,
    feature_name  text        NOT NULL,
    time_bucket   timestamptz NOT NULL,              -- the local day
    usage_count   bigint      NOT NULL,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, user_id, feature_name, time_bucket)
) PARTITION BY RANGE (time_bucket);

-- Who was active on a local day is the union of that day's rows. A step adds a row of what it saw; when a level has
-- many, the same transaction replaces them by their union one level up. A union is the same in any order and however
-- often a member is repeated, so readers need no version and no lock.
CREATE TABLE active_user_sets (
    enterprise_id  uuid        NOT NULL,
    time_bucket    timestamptz NOT NULL,             -- the local day
    level          smallint    NOT NULL,
    segment_offset bigint      NOT NULL,             -- of the step that wrote the row
    members        bytea       NOT NULL,  -- feature → user ordinals
    hourly_members bytea       NOT NULL,  -- local hour → feature → user ordinals
    PRIMARY KEY (enterprise_id, time_bucket, level, segment_offset)
) PARTITION BY RANGE (time_bucket);
ALTER TABLE active_user_sets ALTER members SET STORAGE EXTERNAL, ALTER hourly_members SET STORAGE EXTERNAL;

-- received = accepted + rejected; accepted = stored + duplicate, and what the log still holds is pending.
CREATE TABLE usage_ledger (
    enterprise_id uuid        NOT NULL,
    time_bucket   timestamptz NOT NULL,              -- the local hour of receipt
    received      bigint      NOT NULL,
    accepted      bigint      NOT NULL,
    rejected      bigint      NOT NULL,
    stored        bigint      NOT NULL,
    duplicate     bigint      NOT NULL,
    PRIMARY KEY (enterprise_id, time_bucket),
    CHECK (received = accepted + rejected AND accepted = stored + duplicate)
) PARTITION BY RANGE (time_bucket);

------------------------------------------------------------------------------------------------ partitions by month

-- Runs with its owner's rights, so that the pipeline can store events of any month without the right to alter the schema.
-- ATTACH takes a lock that lets reading and writing of the parent go on; CREATE … PARTITION OF would not.
CREATE FUNCTION ensure_month_partition(parent text, any_day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    month_start date := date_trunc('month', any_day)::date;
    month_end   date := (date_trunc('month', any_day) + interval '1 month')::date;
    leaf        text := format('%s_%s', parent, to_char(month_start, 'YYYY_MM'));
    dedupe      text := '';
BEGIN
    IF parent NOT IN ('log_segments', 'usage_events', 'usage_aggregates', 'user_usage_aggregates', 'active_user_sets', 'usage_ledger') THEN
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
    ELSIF parent <> 'log_segments' THEN
        EXECUTE format('ALTER TABLE %I SET (fillfactor = 85)', leaf);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, leaf,
        month_start::text || ' 00:00:00Z', month_end::text || ' 00:00:00Z');
    RETURN true;
END $$;

------------------------------------------------------------------------------------------------ walls

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['enterprises', 'user_ordinals', 'users', 'user_roles', 'sessions', 'refresh_tokens', 'api_keys',
        'usage_events', 'usage_aggregates', 'user_usage_aggregates', 'active_user_sets', 'usage_ledger']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY own_enterprise ON %I TO usage_monitor_app
            USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()))', tenant_table);
    END LOOP;

    FOREACH tenant_table IN ARRAY ARRAY['enterprises', 'user_ordinals', 'users',
        'usage_events', 'usage_aggregates', 'user_usage_aggregates', 'active_user_sets', 'usage_ledger']
    LOOP
        EXECUTE format('CREATE POLICY pipeline ON %I TO usage_monitor_pipeline USING (true) WITH CHECK (true)', tenant_table);
    END LOOP;
END $$;

CREATE POLICY operator_lists ON enterprises FOR SELECT TO usage_monitor_app USING ((SELECT platform_scope()));
CREATE POLICY known_credential ON api_keys FOR SELECT TO usage_monitor_app USING (key_hash = (SELECT current_lookup()));
CREATE POLICY known_credential ON users FOR SELECT TO usage_monitor_app USING (email_hash = (SELECT current_lookup()));
CREATE POLICY known_credential ON sessions FOR SELECT TO usage_monitor_app USING (cookie_hash = (SELECT current_lookup()));
CREATE POLICY known_credential ON refresh_tokens FOR SELECT TO usage_monitor_app USING (token_hash = (SELECT current_lookup()));

REVOKE ALL ON FUNCTION ensure_month_partition(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_month_partition(text, date) TO usage_monitor_pipeline;

GRANT SELECT, INSERT, UPDATE ON enterprises, user_ordinals, users, api_keys, sessions, refresh_tokens TO usage_monitor_app;
GRANT SELECT, INSERT, DELETE ON user_roles TO usage_monitor_app;
GRANT SELECT, INSERT ON signing_keys TO usage_monitor_app;
GRANT SELECT, UPDATE ON identity_version TO usage_monitor_app;
GRANT SELECT ON log_partitions, log_positions, usage_events, usage_aggregates, user_usage_aggregates, active_user_sets, usage_ledger
    TO usage_monitor_app;

GRANT SELECT ON enterprises, identity_version TO usage_monitor_pipeline;
GRANT SELECT, UPDATE ON user_ordinals TO usage_monitor_pipeline;
GRANT SELECT (enterprise_id, user_id, ordinal), INSERT (enterprise_id, user_id, ordinal, external_id, created_at)
    ON users TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON log_partitions, log_positions TO usage_monitor_pipeline;
GRANT SELECT, INSERT, DELETE ON log_segments, active_user_sets TO usage_monitor_pipeline;
GRANT SELECT, INSERT ON usage_events TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON usage_aggregates, user_usage_aggregates, usage_ledger TO usage_monitor_pipeline;
