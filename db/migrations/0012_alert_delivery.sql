-- What alerts are sent by, and what became of each attempt.

ALTER TABLE webhooks
    ADD version             int NOT NULL DEFAULT 1,  -- raised by every change
    ADD former_secret       bytea,                   -- signs beside the secret until the time, sealed like it
    ADD former_secret_until timestamptz,
    ADD inactive_because    text,                    -- why the server made it INACTIVE; null when a person did
    ADD CHECK ((former_secret IS NULL) = (former_secret_until IS NULL));
CREATE UNIQUE INDEX webhooks_name ON webhooks (enterprise_id, lower(name));

-- An enterprise's deliveries to one endpoint stand in one queue, and the queues take turns.
ALTER TABLE alert_deliveries
    ADD endpoint_id   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',   -- the webhook; nil: the mail server
    ADD sending_since timestamptz;                   -- an attempt is under way: committed before it begins, cleared with its outcome
CREATE INDEX alert_deliveries_queue ON alert_deliveries (enterprise_id, endpoint_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE alert_delivery_attempts (
    enterprise_id uuid        NOT NULL,
    delivery_id   uuid        NOT NULL,
    attempt       int         NOT NULL,              -- 1, 2, …
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,                       -- null: UNKNOWN
    outcome       text        NOT NULL CHECK (outcome IN ('DELIVERED', 'FAILED', 'UNKNOWN')),   -- UNKNOWN: the sender ended before it could say
    status_code   int,                               -- of HTTP or SMTP
    error         text,
    PRIMARY KEY (enterprise_id, delivery_id, attempt)
);

SELECT wall_in('alert_delivery_attempts');
CREATE POLICY pipeline ON alert_delivery_attempts TO usage_monitor_pipeline USING (true) WITH CHECK (true);
GRANT SELECT ON alert_delivery_attempts TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE ON alert_delivery_attempts TO usage_monitor_pipeline;

-- Whoever answers 410 Gone wants no more.
GRANT UPDATE (status, inactive_because, version, updated_at) ON webhooks TO usage_monitor_pipeline;
