-- Late data is honest: a day's figure that changes after it was reported leaves what it was, what it became, and why.

-- A day counts as reported an hour after it is over; what is received later restates it. One row for each day, feature and local day
-- of receipt, so that the rows of a day and feature follow each other: what one became is what the next one was.
CREATE TABLE usage_restatements (
    enterprise_id  uuid        NOT NULL,
    restatement_id uuid        NOT NULL,             -- UUIDv7 of first_at: they are listed by it
    day_start      timestamptz NOT NULL,             -- of the local day whose figure changed
    feature_name   text        NOT NULL,             -- '': of all features, as in usage_aggregates
    restated_on    date        NOT NULL,             -- the local day on which the late events were received
    value_before   bigint      NOT NULL,
    value_after    bigint      NOT NULL,
    cause          text        NOT NULL CHECK (cause IN ('LATE', 'BACKFILL')),
    first_at       timestamptz NOT NULL,             -- receipt of the first and of the last of them
    last_at        timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, day_start, feature_name, restated_on),
    UNIQUE (enterprise_id, restatement_id)
);

SELECT wall_in('usage_restatements');
CREATE POLICY pipeline ON usage_restatements TO usage_monitor_pipeline USING (true) WITH CHECK (true);
GRANT SELECT ON usage_restatements TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_restatements TO usage_monitor_pipeline;
