-- Abnormal behaviour: what is learned of each series and each user, what was expected, and what stood out.

-- How far an enterprise has been looked at. Whoever feeds holds this row's lock: what is learned, what was found and these
-- positions move in one transaction.
CREATE TABLE anomaly_positions (
    enterprise_id   uuid        PRIMARY KEY,
    next_look_at    timestamptz NOT NULL,
    watched_since   timestamptz NOT NULL,            -- days that ended before only teach
    features_day    date,                            -- the local day on which the busiest features were chosen
    user_day        date,                            -- the local day whose users are evaluated next
    user_ordinal    int         NOT NULL DEFAULT 0,  -- … beginning with this user
    user_findings   int         NOT NULL DEFAULT 0,  -- found of that day so far
    feature_names   text[]      NOT NULL DEFAULT '{}',   -- a feature's place is its number in what is known of users
    feature_days    int[]       NOT NULL DEFAULT '{}',   -- the day on which each was first met, as days since 0001-01-01
    notices_hour    timestamptz,                     -- the hour in which notices are counted
    notices         int         NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX anomaly_positions_due ON anomaly_positions (next_look_at);

-- One detector: of an enterprise's feature, or of all of them.
CREATE TABLE anomaly_series (
    enterprise_id uuid        NOT NULL,
    feature_name  text        NOT NULL,              -- '' = all features
    fed_through   timestamptz NOT NULL,              -- the beginning of the first hour that it has not seen
    fed_local     bigint      NOT NULL,              -- the last hour by the local clock, as its detectors were told
    watched_since timestamptz NOT NULL,              -- hours that ended before only teach
    usage_state   bytea       NOT NULL,              -- SeriesDetector, of events
    users_state   bytea       NOT NULL,              -- SeriesDetector, of active users
    profile       bytea       NOT NULL,              -- SeriesProfile: what came in the last weeks' hours, and how it arrives
    PRIMARY KEY (enterprise_id, feature_name)
);
ALTER TABLE anomaly_series ALTER usage_state SET STORAGE EXTERNAL, ALTER users_state SET STORAGE EXTERNAL, ALTER profile SET STORAGE EXTERNAL;

-- What was expected of an hour before it was seen: the band of the charts.
CREATE TABLE anomaly_expectations (
    enterprise_id uuid        NOT NULL,
    feature_name  text        NOT NULL,
    time_bucket   timestamptz NOT NULL,              -- the local hour
    series        text        NOT NULL,              -- USAGE or ACTIVE_USERS
    expected      real        NOT NULL,
    low           real        NOT NULL,
    high          real        NOT NULL,
    score         real        NOT NULL,              -- of what came, 0–1
    PRIMARY KEY (enterprise_id, feature_name, time_bucket, series)
) PARTITION BY RANGE (time_bucket);

-- What is known of a user: constant in size, see UserProfile.
CREATE TABLE anomaly_users (
    enterprise_id uuid  NOT NULL,
    user_id       uuid  NOT NULL,
    last_day      date  NOT NULL,                    -- the last day it has in it
    state         bytea NOT NULL,
    PRIMARY KEY (enterprise_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX anomaly_users_recent ON anomaly_users (enterprise_id, last_day DESC);

CREATE TABLE anomalies (
    enterprise_id uuid        NOT NULL,
    anomaly_id    uuid        NOT NULL,              -- UUIDv7 of opened_at
    kind          text        NOT NULL CHECK (kind IN ('SPIKE', 'DROP', 'STOPPED', 'UNUSUAL_HOURS', 'SUDDEN_VOLUME', 'NEW_FEATURE')),
    series        text        NOT NULL CHECK (series IN ('USAGE', 'ACTIVE_USERS', 'USER')),
    feature_name  text        NOT NULL,              -- '' = all features
    user_id       uuid        NOT NULL,              -- the nil UUID: nobody in particular
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,              -- so far, while it is open
    observed      float8      NOT NULL,
    expected      float8      NOT NULL,
    low           float8      NOT NULL,
    high          float8      NOT NULL,
    score         float8      NOT NULL,
    status        text        NOT NULL CHECK (status IN ('OPEN', 'RESOLVED')),
    detail        text        NOT NULL,
    opened_at     timestamptz NOT NULL,
    resolved_at   timestamptz,
    is_expected   boolean,                           -- what a person said of it
    note          bytea,                             -- their words, sealed with the data key
    answered_by   uuid,
    answered_at   timestamptz,
    PRIMARY KEY (enterprise_id, anomaly_id),
    UNIQUE (enterprise_id, series, feature_name, user_id, kind, starts_at)
);
CREATE INDEX anomalies_open ON anomalies (enterprise_id, series) WHERE status = 'OPEN';
CREATE INDEX anomalies_of_user ON anomalies (enterprise_id, user_id, anomaly_id);
CREATE INDEX anomalies_of_feature ON anomalies (enterprise_id, feature_name, anomaly_id);

CREATE TABLE anomaly_settings (
    enterprise_id uuid        PRIMARY KEY,
    recipients    bytea       NOT NULL,              -- e-mail addresses: JSON array of texts, sealed with the data key
    updated_by    uuid        NOT NULL,
    updated_at    timestamptz NOT NULL
);

-- As in 0003, for every table that is partitioned by time: a list of their names would have to be told in each migration.
CREATE OR REPLACE FUNCTION ensure_month_partition(parent text, any_day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    month_start date := date_trunc('month', any_day)::date;
    month_end   date := (date_trunc('month', any_day) + interval '1 month')::date;
    leaf        text := format('%s_%s', parent, to_char(month_start, 'YYYY_MM'));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
                    WHERE c.relname = parent AND c.relnamespace = current_schema()::regnamespace AND p.partstrat = 'r') THEN
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
    ELSIF parent NOT IN ('log_segments', 'decisions', 'anomaly_expectations') THEN
        EXECUTE format('ALTER TABLE %I SET (fillfactor = 85)', leaf);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, leaf,
        month_start::text || ' 00:00:00Z', month_end::text || ' 00:00:00Z');
    RETURN true;
END $$;

SELECT wall_in(tenant_table) FROM unnest(ARRAY['anomaly_positions', 'anomaly_series', 'anomaly_expectations', 'anomaly_users', 'anomalies',
    'anomaly_settings']) AS tenant_table;

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['anomaly_positions', 'anomaly_series', 'anomaly_expectations', 'anomaly_users', 'anomalies', 'anomaly_settings']
    LOOP
        EXECUTE format('CREATE POLICY pipeline ON %I TO usage_monitor_pipeline USING (true) WITH CHECK (true)', tenant_table);
    END LOOP;
END $$;

GRANT SELECT ON anomaly_expectations, anomaly_users, anomalies TO usage_monitor_app;
GRANT UPDATE (status, resolved_at, is_expected, note, answered_by, answered_at) ON anomalies TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE ON anomaly_settings TO usage_monitor_app;
GRANT SELECT ON anomaly_settings TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON anomaly_positions, anomaly_expectations, anomaly_users, anomalies TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE, DELETE ON anomaly_series TO usage_monitor_pipeline;
