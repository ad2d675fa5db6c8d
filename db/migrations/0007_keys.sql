-- Keys: the root key under the master key, and signing keys that take turns.

-- Everything that derives from a secret of the platform (the logins' passwords, the index of e-mail addresses, the seal of
-- the signing keys) derives from this root, which only the master key opens. Its first 8 bytes are the id of that key.
-- The migrator writes it, as the owner; the server only looks which key wraps.
CREATE TABLE platform_keys (
    purpose      text        PRIMARY KEY CHECK (purpose = 'root'),
    wrapped_key  bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    rewrapped_at timestamptz
);
GRANT SELECT ON platform_keys TO usage_monitor_app;

-- A key is published from created_at, signs from signs_from until the next one does, and is then accepted for an hour more.
ALTER TABLE signing_keys ADD signs_from timestamptz;
UPDATE signing_keys SET signs_from = created_at;
ALTER TABLE signing_keys ALTER signs_from SET NOT NULL;
GRANT DELETE ON signing_keys TO usage_monitor_app;
