-- The archive (finished days as sealed Parquet files) and retention.

INSERT INTO permissions (permission, description) VALUES
    ('privacy:read',  'See how long what is kept, and what was deleted when'),
    ('privacy:write', 'Set how long what is kept, and the legal hold');

------------------------------------------------------------------------------------------------ the archive

-- One file of one enterprise's local day; the row is what makes it part of the archive. A rewrite is a higher generation.
CREATE TABLE archive_files (
    enterprise_id uuid        NOT NULL,
    archived_day  date        NOT NULL,              -- local
    day_start     timestamptz NOT NULL,
    day_end       timestamptz NOT NULL,
    generation    int         NOT NULL CHECK (generation > 0),
    path          text        NOT NULL,              -- below the archive's folder
    event_count   bigint      NOT NULL,
    file_bytes    bigint      NOT NULL,
    file_sha256   bytea       NOT NULL,              -- of the sealed file
    content_hash  bigint      NOT NULL,              -- sum of the rows' hashes, whatever their order: see ArchivedEvent.Hash
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    watermark     bigint      NOT NULL,              -- all events of the day from segments up to this offset are in the file
    key_bits      int         NOT NULL,              -- leading bits that choose the row of archived_event_keys
    counted       bigint      NOT NULL,              -- what usage_aggregates said of the day then: more, and there are late events
    archived_at   timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, archived_day)
);
CREATE INDEX archive_files_time ON archive_files (enterprise_id, day_start);

-- The ids of archived events, so that a repeated one is still known: sorted 64-bit hashes, many to a row.
CREATE TABLE archived_event_keys (
    enterprise_id uuid  NOT NULL,
    archived_day  date  NOT NULL,
    bucket        int   NOT NULL,                    -- the hashes' leading bits, as many as the file's key_bits
    keys          bytea NOT NULL,                    -- 8 bytes each, big-endian, ascending: see ArchivedKeys
    PRIMARY KEY (enterprise_id, archived_day, bucket)
);
ALTER TABLE archived_event_keys ALTER keys SET STORAGE EXTERNAL;

-- Which segments are still pointed to is asked for a stretch of receipt.
CREATE INDEX usage_events_received ON usage_events USING brin (received_at) WITH (pages_per_range = 32);

------------------------------------------------------------------------------------------------ retention

CREATE TABLE retention_settings (
    enterprise_id            uuid        PRIMARY KEY,
    archive                  boolean     NOT NULL DEFAULT true,   -- finished days are archived before they may be deleted
    events_days              int,                    -- null: for ever; as the others
    user_aggregates_days     int,
    aggregates_days          int,
    audit_days               int,
    decisions_days           int,
    legal_hold               boolean     NOT NULL DEFAULT false,
    legal_hold_reason        bytea,                  -- sealed with the data key
    legal_hold_by            uuid,
    legal_hold_at            timestamptz,
    updated_by               uuid        NOT NULL,
    updated_at               timestamptz NOT NULL
);

-- The proof: what was deleted when, how much, and up to which time. Kept when everything else goes.
CREATE TABLE retention_runs (
    enterprise_id uuid        NOT NULL,              -- nil: rows that belong to no one enterprise
    run_id        uuid        NOT NULL,              -- UUIDv7
    data_class    text        NOT NULL,
    table_name    text        NOT NULL,
    deleted_before timestamptz NOT NULL,             -- nothing older is left
    deleted_rows  bigint      NOT NULL,
    deleted_bytes bigint      NOT NULL,              -- of archive files
    whole_partition boolean   NOT NULL,
    ran_at        timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, run_id)
);

-- Up to where a class of an enterprise has been deleted; it only rises.
CREATE TABLE retention_progress (
    enterprise_id  uuid        NOT NULL,
    data_class     text        NOT NULL,
    deleted_before timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, data_class)
);

------------------------------------------------------------------------------------------------ walls

SELECT wall_in(tenant_table) FROM unnest(ARRAY['archive_files', 'archived_event_keys', 'retention_settings', 'retention_runs',
    'retention_progress']) AS tenant_table;

-- Archiving and retention handle all enterprises, as processing does, whose login they use.
DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['archive_files', 'archived_event_keys', 'retention_settings', 'retention_runs', 'retention_progress']
    LOOP
        EXECUTE format('CREATE POLICY pipeline ON %I TO usage_monitor_pipeline USING (true) WITH CHECK (true)', tenant_table);
    END LOOP;
END $$;
CREATE POLICY retention_reads ON decisions FOR SELECT TO usage_monitor_pipeline USING (true);
CREATE POLICY retention_deletes ON decisions FOR DELETE TO usage_monitor_pipeline USING (true);

GRANT SELECT ON archive_files, retention_runs, retention_progress TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE ON retention_settings TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_files, archived_event_keys TO usage_monitor_pipeline;
GRANT SELECT ON retention_settings TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON retention_runs TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON retention_progress TO usage_monitor_pipeline;
GRANT DELETE ON usage_events, usage_aggregates, user_usage_aggregates, usage_ledger, anomaly_expectations, alert_deliveries,
    alert_delivery_attempts, usage_reservations TO usage_monitor_pipeline;
GRANT SELECT, DELETE ON decisions TO usage_monitor_pipeline;
GRANT DELETE ON active_user_sets TO usage_monitor_pipeline;

-- Emptying a month's partition gives its space back at once, and takes no lock but that partition's own; its name stays, because
-- every instance remembers which partitions there are. The caller locks it first, sees that nothing is left that must stay, and
-- then empties it: with the owner's rights, of tables with a month's partitions only.
CREATE FUNCTION lock_month_partition(parent text, any_day date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    leaf text := format('%s_%s', parent, to_char(any_day, 'YYYY_MM'));
BEGIN
    IF parent NOT IN ('log_segments', 'usage_events', 'usage_aggregates', 'user_usage_aggregates', 'active_user_sets', 'usage_ledger',
        'decisions', 'anomaly_expectations') THEN
        RAISE EXCEPTION 'not a table whose months may be emptied: %', parent;
    END IF;
    IF to_regclass(leaf) IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', leaf);
    RETURN leaf;
END $$;

CREATE FUNCTION empty_month_partition(parent text, any_day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    leaf text := lock_month_partition(parent, any_day);
BEGIN
    IF leaf IS NULL OR pg_relation_size(leaf::regclass) = 0 THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE TABLE %I', leaf);
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION lock_month_partition(text, date), empty_month_partition(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_month_partition(text, date), empty_month_partition(text, date) TO usage_monitor_pipeline;
