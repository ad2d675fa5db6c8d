-- Whose identity changed last at which version, so that a change of one enterprise leaves the others' caches alone.

ALTER TABLE identity_version
    ADD everything_version bigint NOT NULL DEFAULT 0;  -- the last change that was of no single enterprise

CREATE TABLE identity_changes (
    enterprise_id uuid   PRIMARY KEY,
    version       bigint NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX identity_changes_by_version ON identity_changes (version);

-- A trigger, so that the version cannot be raised without saying whose change it is: that of the enterprise in scope, and
-- outside any scope everybody's. The version's row lock is held until the commit, so versions become visible in order, and
-- a snapshot that sees a version sees the change of every one up to it.
CREATE FUNCTION note_identity_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF current_enterprise() IS NULL THEN
        NEW.everything_version := NEW.version;
    ELSE
        INSERT INTO identity_changes AS known (enterprise_id, version) VALUES (current_enterprise(), NEW.version)
        ON CONFLICT (enterprise_id) DO UPDATE SET version = EXCLUDED.version;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER note_identity_change BEFORE UPDATE OF version ON identity_version
    FOR EACH ROW EXECUTE FUNCTION note_identity_change();

SELECT wall_in('identity_changes');
CREATE POLICY pipeline ON identity_changes FOR SELECT TO usage_monitor_pipeline USING (true);
GRANT SELECT, INSERT, UPDATE ON identity_changes TO usage_monitor_app;
GRANT SELECT ON identity_changes TO usage_monitor_pipeline;
