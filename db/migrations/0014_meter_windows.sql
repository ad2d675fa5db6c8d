-- Counters in Redis are loaded a meter's window at a time, and a limit's page shows a window's top users: the rows of a window
-- lie together, and those of windows that ended go together.
ALTER TABLE limit_usage DROP CONSTRAINT limit_usage_pkey,
    ADD CONSTRAINT limit_usage_pkey PRIMARY KEY (enterprise_id, meter_id, window_start, subject_id);
