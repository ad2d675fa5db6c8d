-- Limits that hold, what they counted and refused, and whom alerts were sent to.

INSERT INTO permissions (permission, description) VALUES
    ('limits:read',      'See usage limits, what is used of them, and violations'),
    ('limits:write',     'Make, change and delete usage limits'),
    ('violations:write', 'Resolve violations'),
    ('decisions:write',  'Make a refused event count as usage after all'),
    ('alerts:read',      'See alert rules, alerts, anomalies and deliveries'),
    ('alerts:write',     'Make, change and delete alert rules and webhooks; send a delivery again');

ALTER TABLE enterprises
    ADD limits_unreachable  text NOT NULL DEFAULT 'OPEN'   CHECK (limits_unreachable IN ('OPEN', 'CLOSED')),   -- when usage cannot be counted just now
    ADD anomaly_sensitivity text NOT NULL DEFAULT 'NORMAL' CHECK (anomaly_sensitivity IN ('OFF', 'LOW', 'NORMAL', 'HIGH'));

------------------------------------------------------------------------------------------------ limits

CREATE TABLE usage_limits (
    enterprise_id       uuid        NOT NULL,
    limit_id            uuid        NOT NULL,        -- UUIDv7: limits are listed as they were made
    feature_name        text        NOT NULL,        -- a name, a beginning such as 'export*', or '*': all
    scope               text        NOT NULL CHECK (scope IN ('USER', 'ROLE', 'ENTERPRISE')),   -- whose usage counts together
    subject_user_id     uuid,                        -- USER: null = each user
    subject_external_id bytea,                       -- that user's external id, sealed with the data key
    subject_role        text,                        -- ROLE: everybody who holds it, together
    limit_value         bigint      NOT NULL CHECK (limit_value >= 0),
    window_type         text        NOT NULL CHECK (window_type IN ('HOURLY', 'DAILY', 'MONTHLY')),   -- local
    action              text        NOT NULL CHECK (action IN ('ALERT', 'BLOCK')),
    status              text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    starts_at           timestamptz,                 -- inclusive; null: always
    expires_at          timestamptz,                 -- exclusive; null: never
    version             int         NOT NULL,        -- raised by every change
    created_by          uuid        NOT NULL,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, limit_id),
    CHECK ((scope = 'ROLE') = (subject_role IS NOT NULL)),
    CHECK (scope = 'USER' OR subject_user_id IS NULL),
    CHECK (subject_external_id IS NULL OR subject_user_id IS NOT NULL),
    CHECK (starts_at < expires_at)
);

-- Every version there ever was, so that a refusal can be explained after the limit has changed or gone.
CREATE TABLE usage_limit_versions (
    enterprise_id       uuid        NOT NULL,
    limit_id            uuid        NOT NULL,
    version             int         NOT NULL,
    change              text        NOT NULL CHECK (change IN ('CREATED', 'CHANGED', 'DELETED')),
    feature_name        text        NOT NULL,
    scope               text        NOT NULL,
    subject_user_id     uuid,
    subject_external_id bytea,
    subject_role        text,
    limit_value         bigint      NOT NULL,
    window_type         text        NOT NULL,
    action              text        NOT NULL,
    status              text        NOT NULL,
    starts_at           timestamptz,
    expires_at          timestamptz,
    changed_by          uuid        NOT NULL,
    changed_at          timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, limit_id, version)
);

------------------------------------------------------------------------------------------------ what is counted

-- Limits with the same feature, scope, role and window count the same usage: one meter. A row is made by processing in the
-- transaction in which it begins to count, after everything stored before; see LimitMeter.
CREATE TABLE limit_meters (
    enterprise_id uuid        NOT NULL,
    meter_id      uuid        NOT NULL,              -- UUIDv5 of what is metered
    feature_name  text        NOT NULL,
    scope         text        NOT NULL,
    role_name     text,
    window_type   text        NOT NULL,
    counted_since timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, meter_id)
);

-- What processing has stored of a meter's usage in a window. Right as of the position that the same transaction moved to.
CREATE TABLE limit_usage (
    enterprise_id uuid        NOT NULL,
    meter_id      uuid        NOT NULL,
    subject_id    uuid        NOT NULL,              -- USER: the user; otherwise the nil UUID
    window_start  timestamptz NOT NULL,
    window_end    timestamptz NOT NULL,
    used          bigint      NOT NULL,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, meter_id, subject_id, window_start)
) WITH (fillfactor = 80);

-- A stretch of time of all enterprises is found without looking at every page: new meters count an hour's events.
CREATE INDEX usage_events_time ON usage_events USING brin (event_timestamp) WITH (pages_per_range = 32);

-- What an enterprise's counters in Redis are worth is checked at the append: admissions counted under a lower fence are
-- refused. Read and raised under the row lock of the enterprise's log partition.
CREATE TABLE log_fences (
    enterprise_id uuid   PRIMARY KEY,
    fence         bigint NOT NULL
) WITH (fillfactor = 50);

-- Fails with UM001 and the enterprises' ids when a fence was raised since: the append that asks is undone with it.
CREATE FUNCTION check_log_fences(ids uuid[], fences bigint[]) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    behind text;
BEGIN
    SELECT string_agg(asked.enterprise_id::text, ',') INTO behind
      FROM unnest(ids, fences) AS asked (enterprise_id, fence)
      LEFT JOIN log_fences AS kept USING (enterprise_id)
     WHERE coalesce(kept.fence, 0) <> asked.fence;
    IF behind IS NOT NULL THEN
        RAISE EXCEPTION '%', behind USING ERRCODE = 'UM001';   -- not as the detail, which clients hide
    END IF;
END $$;

-- Usage that is held until it is done (COMMITTED), given up (RELEASED) or too late.
CREATE TABLE usage_reservations (
    enterprise_id  uuid        NOT NULL,
    reservation_id uuid        NOT NULL,             -- and the id of the event that it becomes
    user_id        uuid        NOT NULL,
    external_id    bytea,                            -- sealed with the data key
    feature_name   text        NOT NULL,
    event_type     text        NOT NULL,
    api_key_id     uuid,
    state          text        NOT NULL CHECK (state IN ('HELD', 'COMMITTED', 'RELEASED')),
    created_at     timestamptz NOT NULL,             -- the time that its event will have
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    PRIMARY KEY (enterprise_id, reservation_id)
);
CREATE INDEX usage_reservations_held ON usage_reservations (enterprise_id, expires_at) WHERE state = 'HELD';
CREATE INDEX usage_reservations_committed ON usage_reservations (enterprise_id, ended_at) WHERE state = 'COMMITTED';

------------------------------------------------------------------------------------------------ what was refused

ALTER TABLE decisions
    ADD limit_id        uuid,
    ADD limit_version   int,
    ADD limit_value     bigint,
    ADD used            bigint,                      -- of the limit, before the attempt
    ADD window_start    timestamptz,
    ADD window_end      timestamptz,
    ADD counted_at      timestamptz,                 -- how old the count was
    ADD reclassified_at timestamptz,                 -- an admin made it count as usage after all
    ADD reclassified_by uuid,
    ADD reclassified_reason text,
    ADD CHECK ((limit_id IS NULL) = (limit_version IS NULL)),
    ADD CHECK (limit_id IS NULL OR policy_id IS NULL);
GRANT UPDATE (reclassified_at, reclassified_by, reclassified_reason) ON decisions TO usage_monitor_app;

-- A limit was exceeded (ALERT), or refused somebody (BLOCK), in a window: one row however often.
CREATE TABLE usage_violations (
    enterprise_id    uuid        NOT NULL,
    violation_id     uuid        NOT NULL,           -- UUIDv7 of opened_at
    limit_id         uuid        NOT NULL,
    limit_version    int         NOT NULL,
    subject_id       uuid        NOT NULL,           -- USER: the user; otherwise the nil UUID
    feature_name     text        NOT NULL,           -- the limit's
    scope            text        NOT NULL,
    role_name        text,
    window_type      text        NOT NULL,
    action           text        NOT NULL,
    window_start     timestamptz NOT NULL,
    window_end       timestamptz NOT NULL,
    limit_value      bigint      NOT NULL,
    used             bigint      NOT NULL,           -- counted in the window
    blocked          bigint      NOT NULL,           -- attempts refused in the window
    opened_at        timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    status           text        NOT NULL CHECK (status IN ('OPEN', 'RESOLVED')),
    resolved_at      timestamptz,
    resolved_by      uuid,
    resolved_reason  text,
    PRIMARY KEY (enterprise_id, violation_id),
    UNIQUE (enterprise_id, limit_id, subject_id, window_start)
);

------------------------------------------------------------------------------------------------ alerts

CREATE TABLE usage_alerts (
    enterprise_id   uuid        NOT NULL,
    alert_id        uuid        NOT NULL,            -- UUIDv7
    feature_name    text        NOT NULL,            -- a name, a beginning, or '*'
    scope           text        NOT NULL CHECK (scope IN ('USER', 'ENTERPRISE')),   -- of an absolute threshold: each user's usage, or everybody's
    threshold_pct   int         CHECK (threshold_pct BETWEEN 1 AND 1000),           -- of every limit on this feature and window
    threshold_value bigint      CHECK (threshold_value > 0),
    window_type     text        NOT NULL CHECK (window_type IN ('HOURLY', 'DAILY', 'MONTHLY')),
    notification    text        NOT NULL CHECK (notification IN ('EMAIL', 'WEBHOOK')),
    recipients      bytea       NOT NULL,            -- e-mail addresses, or ids of webhooks: JSON array of texts, sealed with the data key
    status          text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    version         int         NOT NULL,
    created_by      uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, alert_id),
    CHECK ((threshold_pct IS NULL) <> (threshold_value IS NULL))
);

-- One alert per rule, limit, subject and window, however the count hovers; it may rise from LOW to HIGH once.
CREATE TABLE alert_events (
    enterprise_id  uuid        NOT NULL,
    alert_event_id uuid        NOT NULL,             -- UUIDv7 of opened_at
    alert_id       uuid        NOT NULL,             -- the rule
    limit_id       uuid        NOT NULL,             -- of a percentage: the limit; otherwise the nil UUID
    subject_id     uuid        NOT NULL,             -- a user, or the nil UUID
    feature_name   text        NOT NULL,
    scope          text        NOT NULL,
    role_name      text,
    window_type    text        NOT NULL,
    window_start   timestamptz NOT NULL,
    window_end     timestamptz NOT NULL,
    severity       text        NOT NULL CHECK (severity IN ('LOW', 'HIGH')),   -- the threshold, or the limit, is reached
    threshold      bigint      NOT NULL,             -- as a number of events
    limit_value    bigint,
    used           bigint      NOT NULL,             -- when it was opened or last raised
    opened_at      timestamptz NOT NULL,
    raised_at      timestamptz,                      -- from LOW to HIGH
    resolved_at    timestamptz,                      -- the window has ended
    PRIMARY KEY (enterprise_id, alert_event_id),
    UNIQUE (enterprise_id, alert_id, limit_id, subject_id, window_start)
);
CREATE INDEX alert_events_open ON alert_events (window_end) WHERE resolved_at IS NULL;

CREATE TABLE webhooks (
    enterprise_id uuid        NOT NULL,
    webhook_id    uuid        NOT NULL,              -- UUIDv7
    name          text        NOT NULL,
    url           bytea       NOT NULL,              -- sealed with the data key: it may hold a token
    secret        bytea       NOT NULL,              -- what deliveries are signed with, sealed
    status        text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    created_by    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, webhook_id)
);

-- The outbox: written in the transaction of what it tells of, and afterwards the log of what became of it.
CREATE TABLE alert_deliveries (
    enterprise_id   uuid        NOT NULL,
    delivery_id     uuid        NOT NULL,            -- UUIDv7; a webhook's message id
    alert_event_id  uuid        NOT NULL,
    channel         text        NOT NULL CHECK (channel IN ('EMAIL', 'WEBHOOK')),
    recipient       bytea       NOT NULL,            -- address or id of the webhook, sealed
    payload         bytea       NOT NULL,            -- what is told: AlertNotice as JSON, sealed
    cause           text        NOT NULL CHECK (cause IN ('OPENED', 'RAISED', 'RESENT', 'TEST')),
    created_at      timestamptz NOT NULL,
    next_attempt_at timestamptz,                     -- null: done or given up
    attempts        int         NOT NULL DEFAULT 0,
    delivered_at    timestamptz,
    given_up_at     timestamptz,
    last_error      text,
    PRIMARY KEY (enterprise_id, delivery_id)
);
CREATE INDEX alert_deliveries_due ON alert_deliveries (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX alert_deliveries_of_alert ON alert_deliveries (enterprise_id, alert_event_id);

------------------------------------------------------------------------------------------------ walls

SELECT wall_in(tenant_table) FROM unnest(ARRAY['usage_limits', 'usage_limit_versions', 'limit_meters', 'limit_usage', 'log_fences',
    'usage_reservations', 'usage_violations', 'usage_alerts', 'alert_events', 'webhooks', 'alert_deliveries']) AS tenant_table;

-- Processing handles all enterprises, because a segment does.
DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['usage_limits', 'limit_meters', 'limit_usage', 'log_fences', 'usage_reservations', 'usage_violations', 'usage_alerts', 'alert_events',
        'webhooks', 'alert_deliveries']
    LOOP
        EXECUTE format('CREATE POLICY pipeline ON %I TO usage_monitor_pipeline USING (true) WITH CHECK (true)', tenant_table);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON usage_limits, usage_alerts, webhooks TO usage_monitor_app;
GRANT SELECT, INSERT ON usage_limit_versions TO usage_monitor_app;
GRANT SELECT ON limit_meters, limit_usage, log_fences, usage_violations, alert_events TO usage_monitor_app;
GRANT UPDATE (status, resolved_at, resolved_by, resolved_reason) ON usage_violations TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE ON usage_reservations, alert_deliveries TO usage_monitor_app;
GRANT UPDATE (fence) ON log_fences TO usage_monitor_app;      -- to lock the row, FOR SHARE
REVOKE ALL ON FUNCTION check_log_fences(uuid[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION check_log_fences(uuid[], bigint[]) TO usage_monitor_pipeline;

GRANT SELECT ON usage_limits, usage_alerts, webhooks, usage_reservations TO usage_monitor_pipeline;
GRANT UPDATE (state, ended_at) ON usage_reservations TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE, DELETE ON limit_meters, limit_usage, log_fences TO usage_monitor_pipeline;
GRANT SELECT, INSERT, UPDATE ON usage_violations, alert_events, alert_deliveries TO usage_monitor_pipeline;
