-- Counters in Redis are loaded a meter's window at a time, and a limit's page shows a window's top users: the rows of a window
-- lie together, and those of windows that ended go together.
ALTER TABLE limit_usage DROP CONSTRAINT limit_usage_pkey,
    ADD CONSTRAINT limit_usage_pkey PRIMARY KEY (enterprise_id, meter_id, window_start, subject_id);

-- An index that leads with the enterprise alone is a trap for plans made while users is empty: they looked through all users of
-- the enterprise for each one wanted, until the first autoanalyze. Both columns are always given.
ALTER TABLE users DROP CONSTRAINT users_enterprise_id_ordinal_key,
    ADD CONSTRAINT users_ordinal_enterprise_id_key UNIQUE (ordinal, enterprise_id);
