-- What processing needs to meter, and to show violations.

-- Raised by the step that makes or drops a meter of the partition's enterprises, under the lock that it holds anyway: so a
-- worker knows without asking whether limit_meters is still as it remembers.
ALTER TABLE log_positions ADD meters_version bigint NOT NULL DEFAULT 0;

-- limit_meters.counted_since: windows that begin at it or later are counted in full; those before are not counted at all.
COMMENT ON COLUMN limit_meters.counted_since IS 'windows that begin at it or later are counted in full, those before not at all';

-- Windows that ended long ago are deleted.
CREATE INDEX limit_usage_ended ON limit_usage (window_end);

-- The user as events name them, sealed with the data key: who was only ever refused is nobody's row in users.
ALTER TABLE usage_violations ADD subject_external_id bytea;
CREATE INDEX usage_violations_open ON usage_violations (enterprise_id, subject_id) WHERE status = 'OPEN';

-- A limit may be changed or gone when processing comes to an attempt that it refused.
CREATE POLICY pipeline ON usage_limit_versions TO usage_monitor_pipeline USING (true) WITH CHECK (true);
GRANT SELECT ON usage_limit_versions TO usage_monitor_pipeline;
