-- People, roles, groups and what an enterprise asks of those who sign in.

-- What the policies ask, bound when it is defined: a body kept as text would be read anew in each session, by the search_path that
-- the session has chosen.
CREATE OR REPLACE FUNCTION current_enterprise() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.enterprise_id', true), '')::uuid;
CREATE OR REPLACE FUNCTION current_lookup() RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN decode(nullif(current_setting('app.lookup', true), ''), 'hex');
CREATE OR REPLACE FUNCTION platform_scope() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('app.platform', true), '') = 'on';

-- Puts a table that has enterprise_id behind the wall of 0001: the app login sees the rows of the enterprise in scope only.
CREATE FUNCTION wall_in(tenant_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('CREATE POLICY own_enterprise ON %I TO usage_monitor_app
        USING (enterprise_id = (SELECT current_enterprise())) WITH CHECK (enterprise_id = (SELECT current_enterprise()))', tenant_table);
END $$;
REVOKE ALL ON FUNCTION wall_in(text) FROM PUBLIC;

ALTER TABLE enterprises
    ADD second_factor_required boolean NOT NULL DEFAULT false,   -- whoever signs in with a password must show a second factor
    ADD password_sign_in       boolean NOT NULL DEFAULT true;    -- false: single sign-on only

-- Columns that stay null for the many who only use features cost nothing.
ALTER TABLE users
    ADD display_name        bytea,                   -- sealed with the data key
    ADD origin              text CHECK (origin IN ('LOCAL', 'SSO', 'SCIM')),   -- who made this person one that signs in
    ADD password_changed_at timestamptz,
    ADD updated_at          timestamptz,
    ADD deactivated_at      timestamptz;             -- since then every credential of the person is refused

ALTER TABLE sessions
    ADD method        text NOT NULL DEFAULT 'password' CHECK (method IN ('password', 'sso')),
    ADD second_factor text CHECK (second_factor IN ('totp', 'passkey', 'recovery')),
    ADD client        bytea,                         -- address and user agent as JSON, sealed with the data key
    ADD last_seen_at  timestamptz;
CREATE INDEX sessions_of_user ON sessions (enterprise_id, user_id);

ALTER TABLE api_keys
    ADD expires_at   timestamptz,
    ADD last_used_at timestamptz,                    -- within a minute or so
    ADD networks     cidr[],                         -- where it may be used from; null: anywhere
    ADD replaced_by  uuid;                           -- the key that a rotation made; this one ends at expires_at

-- The names of what can be allowed. Permissions in code hold the same; a test compares.
CREATE TABLE permissions (
    permission  text PRIMARY KEY,
    description text NOT NULL
);
INSERT INTO permissions (permission, description) VALUES
    ('usage:write',        'Send usage events'),
    ('usage:backfill',     'Send usage events older than a week'),
    ('usage:check',        'Ask whether a user may use a feature now'),
    ('usage:read',         'Read dashboards and the ledger'),
    ('api-keys:read',      'See API keys'),
    ('api-keys:write',     'Make, rotate and revoke API keys'),
    ('people:read',        'See people, groups and their sessions'),
    ('people:write',       'Invite, change and deactivate people; end their sessions'),
    ('roles:read',         'See roles and permissions'),
    ('roles:write',        'Make and change roles'),
    ('policies:read',      'See and simulate access policies'),
    ('policies:write',     'Make and change access policies'),
    ('decisions:read',     'Look up why something was refused'),
    ('settings:read',      'See security settings and single sign-on'),
    ('settings:write',     'Change security settings and single sign-on'),
    ('provisioning:write', 'Provision people and groups over SCIM'),
    ('enterprises:write',  'Operator: make, suspend and resume enterprises'),
    ('platform:write',     'Operator: rotate keys');

-- An enterprise's own roles. The built-in ones (RolePermissions in code) are the same for all and not kept here.
CREATE TABLE roles (
    enterprise_id uuid        NOT NULL,
    role_name     text        NOT NULL,
    description   text        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, role_name)
);

CREATE TABLE role_permissions (
    enterprise_id uuid NOT NULL,
    role_name     text NOT NULL,
    permission    text NOT NULL REFERENCES permissions,
    PRIMARY KEY (enterprise_id, role_name, permission),
    FOREIGN KEY (enterprise_id, role_name) REFERENCES roles ON DELETE CASCADE
);

CREATE TABLE groups (
    enterprise_id uuid        NOT NULL,
    group_id      uuid        NOT NULL,
    group_name    text        NOT NULL,
    external_id   text,                              -- the provisioning system's own
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, group_id),
    UNIQUE (enterprise_id, group_name)
);

CREATE TABLE group_members (
    enterprise_id uuid NOT NULL,
    group_id      uuid NOT NULL,
    user_id       uuid NOT NULL,
    PRIMARY KEY (enterprise_id, group_id, user_id),
    FOREIGN KEY (enterprise_id, group_id) REFERENCES groups ON DELETE CASCADE
);
CREATE INDEX group_members_of_user ON group_members (enterprise_id, user_id);

-- The roles that a group's members have by being in it.
CREATE TABLE group_roles (
    enterprise_id uuid NOT NULL,
    group_id      uuid NOT NULL,
    role_name     text NOT NULL,
    PRIMARY KEY (enterprise_id, group_id, role_name),
    FOREIGN KEY (enterprise_id, group_id) REFERENCES groups ON DELETE CASCADE
);

-- Mail is written in the transaction of what it tells of, and sent afterwards.
CREATE TABLE mail_outbox (
    enterprise_id   uuid        NOT NULL,
    mail_id         uuid        NOT NULL,
    message         bytea,                           -- recipient, subject and text as JSON, sealed with the data key; gone once sent
    created_at      timestamptz NOT NULL,
    next_attempt_at timestamptz,                     -- null: sent, or given up
    attempts        int         NOT NULL DEFAULT 0,
    sent_at         timestamptz,
    last_error      text,
    PRIMARY KEY (enterprise_id, mail_id)
);
CREATE INDEX mail_outbox_due ON mail_outbox (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

SELECT wall_in(tenant_table) FROM unnest(ARRAY[
    'roles', 'role_permissions', 'groups', 'group_members', 'group_roles', 'mail_outbox']) AS tenant_table;

GRANT SELECT ON permissions TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON roles, role_permissions, groups, group_members, group_roles, mail_outbox TO usage_monitor_app;
GRANT DELETE ON sessions, refresh_tokens TO usage_monitor_app;
