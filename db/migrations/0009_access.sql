-- Provisioning (SCIM): what a provisioning system keeps of a person, and which groups are its own.

-- All null for the many who only use features.
ALTER TABLE users
    ADD provisioned_profile bytea,                   -- external id, names and addresses as JSON, sealed with the data key
    ADD provisioned_lookup  bytea[],                 -- what the profile is found by: HMAC-SHA-256 of attribute and value
    ADD deprovisioned_at    timestamptz;             -- provisioning deactivated the person: only then may it bring them back

CREATE INDEX users_provisioned ON users USING gin (provisioned_lookup) WHERE provisioned_lookup IS NOT NULL;
-- People are few among users: the lists walk over them only.
CREATE INDEX IF NOT EXISTS users_people ON users (enterprise_id, created_at, user_id) WHERE email IS NOT NULL;

-- A provisioned group's name and members are the provisioning system's; its roles are always given here.
ALTER TABLE groups
    ADD origin text NOT NULL DEFAULT 'LOCAL' CHECK (origin IN ('LOCAL', 'SCIM'));

-- A role's name is one whatever its case.
CREATE UNIQUE INDEX roles_name ON roles (enterprise_id, lower(role_name));
CREATE UNIQUE INDEX groups_name ON groups (enterprise_id, lower(group_name));

-- Who has a role: asked before it may be deleted.
CREATE INDEX user_roles_of_role ON user_roles (enterprise_id, role_name);
CREATE INDEX group_roles_of_role ON group_roles (enterprise_id, role_name);

CREATE INDEX api_keys_listed ON api_keys (enterprise_id, created_at DESC, api_key_id DESC);
