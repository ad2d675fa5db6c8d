-- One-time links by which people set their first password or a new one, and what listing and clearing up need.

CREATE TABLE account_links (
    enterprise_id uuid        NOT NULL,
    token_hash    bytea       PRIMARY KEY,           -- SHA-256; the token itself is only in the link
    user_id       uuid        NOT NULL,
    purpose       text        NOT NULL CHECK (purpose IN ('INVITATION', 'PASSWORD_RESET')),
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,              -- a newer link of the same purpose brings it forward
    used_at       timestamptz                        -- a link is good once
);
CREATE INDEX account_links_of_user ON account_links (enterprise_id, user_id, created_at);

SELECT wall_in('account_links');
CREATE POLICY known_credential ON account_links FOR SELECT TO usage_monitor_app USING (token_hash = (SELECT current_lookup()));
GRANT SELECT, INSERT, UPDATE, DELETE ON account_links TO usage_monitor_app;

-- Whoever sends mail sees which is due, of all enterprises, and nothing of what it says: that is opened in its enterprise's scope.
CREATE POLICY pipeline ON mail_outbox FOR SELECT TO usage_monitor_pipeline USING (true);
GRANT SELECT (enterprise_id, mail_id, next_attempt_at) ON mail_outbox TO usage_monitor_pipeline;

-- People are few among users: the lists walk over them only.
CREATE INDEX users_people ON users (enterprise_id, created_at, user_id) WHERE email IS NOT NULL;

-- Clearing up goes enterprise by enterprise.
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (enterprise_id, expires_at);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (enterprise_id, session_id);
CREATE INDEX mail_outbox_age ON mail_outbox (enterprise_id, created_at);

-- The operator lists enterprises page by page.
CREATE INDEX enterprises_by_name ON enterprises (name, enterprise_id);
