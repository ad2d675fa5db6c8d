-- Retention of the audit log. What is older than an enterprise keeps it goes from the beginning of its chain, up to an entry whose hash
-- a signed checkpoint tells; the checkpoint stays, so that what is left can still be followed from there.

CREATE TABLE audit_trims (
    enterprise_id uuid        PRIMARY KEY,
    sequence      bigint      NOT NULL,              -- of the last entry that is gone
    trimmed_at    timestamptz NOT NULL
);
SELECT wall_in('audit_trims');
CREATE POLICY pipeline ON audit_trims FOR SELECT TO usage_monitor_pipeline USING (true);
GRANT SELECT ON audit_trims TO usage_monitor_app, usage_monitor_pipeline;

CREATE POLICY trim ON audit_trims TO CURRENT_USER
    USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()));
CREATE POLICY trim ON audit_checkpoints TO CURRENT_USER
    USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()));
CREATE POLICY trim ON retention_settings TO CURRENT_USER
    USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()));

-- The only way to delete an entry. Whoever calls it, it deletes nothing that the enterprise keeps, nothing under legal hold, nothing
-- younger than 30 days, and nothing without an entry of this very transaction that tells of it.
CREATE FUNCTION trim_audit(enterprise uuid, through bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    days    int;
    removed bigint;
BEGIN
    IF enterprise IS DISTINCT FROM current_enterprise() THEN
        RAISE EXCEPTION 'entries of an enterprise that is not in scope';
    END IF;
    SELECT s.audit_days INTO days FROM retention_settings s
     WHERE s.enterprise_id = enterprise AND NOT s.legal_hold AND s.audit_days IS NOT NULL FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the enterprise keeps its audit log';
    END IF;
    IF NOT EXISTS (SELECT FROM audit_checkpoints c WHERE c.enterprise_id = enterprise AND c.sequence = through) THEN
        RAISE EXCEPTION 'no checkpoint of entry %', through;
    END IF;
    IF EXISTS (SELECT FROM audit_log l WHERE l.enterprise_id = enterprise AND l.sequence <= through
                  AND l.occurred_at >= now() - greatest(days, 30) * interval '1 day') THEN
        RAISE EXCEPTION 'entries up to % are kept still', through;
    END IF;
    IF NOT EXISTS (SELECT FROM audit_log l WHERE l.enterprise_id = enterprise AND l.sequence > through
                      AND l.action = 'audit.trimmed' AND l.target_id = through::text
                      AND l.xmin = pg_current_xact_id()::xid) THEN
        RAISE EXCEPTION 'no entry tells of it';
    END IF;
    DELETE FROM audit_log l WHERE l.enterprise_id = enterprise AND l.sequence <= through;
    GET DIAGNOSTICS removed = ROW_COUNT;
    INSERT INTO audit_trims AS kept (enterprise_id, sequence, trimmed_at) VALUES (enterprise, through, now())
        ON CONFLICT (enterprise_id) DO UPDATE SET sequence = greatest(kept.sequence, excluded.sequence), trimmed_at = excluded.trimmed_at;
    RETURN removed;
END $$;
REVOKE ALL ON FUNCTION trim_audit(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION trim_audit(uuid, bigint) TO usage_monitor_pipeline;
