-- Single sign-on: the OpenID providers of enterprises, who is known by which, and the roles that came from there.

CREATE TABLE identity_providers (
    enterprise_id      uuid        NOT NULL,
    provider_id        uuid        NOT NULL UNIQUE,  -- part of the link that people keep
    provider_name      text        NOT NULL,
    issuer             text        NOT NULL,
    client_id          text        NOT NULL,
    client_secret      bytea,                        -- sealed with the data key, bound to provider and issuer; null: a public client
    scopes             text[]      NOT NULL,
    email_claim        text        NOT NULL,
    display_name_claim text        NOT NULL,
    roles_claim        text        NOT NULL,
    trust_email        boolean     NOT NULL,         -- addresses count as verified where the provider does not say
    role_mapping       jsonb       NOT NULL,         -- [{"value": …, "role": …}]
    default_roles      text[]      NOT NULL,
    just_in_time       boolean     NOT NULL,         -- people unknown here are made at their first sign-in
    status             text        NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE')),
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, provider_id)
);

-- Whose addresses a provider may vouch for. A domain is claimed once on the whole platform. It names a company and no
-- person, so it stands here as it is; the hash is what it is found by before anybody's enterprise is known.
CREATE TABLE identity_provider_domains (
    enterprise_id uuid  NOT NULL,
    provider_id   uuid  NOT NULL,
    domain        text  NOT NULL,                    -- lower-case ASCII
    domain_hash   bytea NOT NULL UNIQUE,             -- SHA-256
    PRIMARY KEY (enterprise_id, domain),
    FOREIGN KEY (enterprise_id, provider_id) REFERENCES identity_providers ON DELETE CASCADE
);
CREATE INDEX identity_provider_domains_of_provider ON identity_provider_domains (enterprise_id, provider_id);

-- A person as a provider knows them. After the first time this, and not the e-mail address, says who signs in.
CREATE TABLE external_identities (
    enterprise_id uuid        NOT NULL,
    provider_id   uuid        NOT NULL,
    subject_hash  bytea       NOT NULL,              -- HMAC-SHA-256 of issuer and subject
    user_id       uuid        NOT NULL,
    linked_at     timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, provider_id, subject_hash),
    UNIQUE (enterprise_id, provider_id, user_id),
    FOREIGN KEY (enterprise_id, provider_id) REFERENCES identity_providers ON DELETE CASCADE,
    FOREIGN KEY (enterprise_id, user_id) REFERENCES users ON DELETE CASCADE
);
CREATE INDEX external_identities_of_user ON external_identities (enterprise_id, user_id);

-- Sign-ins that have been completed, until the browser's sealed state expires: each completes once.
CREATE TABLE completed_sign_ons (
    enterprise_id uuid        NOT NULL,
    state_hash    bytea       NOT NULL,              -- SHA-256
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, state_hash)
);

-- Roles from a provider are replaced at every sign-in; those that people have given stay.
ALTER TABLE user_roles ADD origin text NOT NULL DEFAULT 'LOCAL' CHECK (origin IN ('LOCAL', 'SSO'));

SELECT wall_in(tenant_table) FROM unnest(ARRAY[
    'identity_providers', 'identity_provider_domains', 'external_identities', 'completed_sign_ons']) AS tenant_table;

-- Before the sign-in nobody's enterprise is known: whoever names the provider or the domain may find it.
CREATE POLICY known_provider ON identity_providers FOR SELECT TO usage_monitor_app
    USING (uuid_send(provider_id) = (SELECT current_lookup()));
CREATE POLICY known_domain ON identity_provider_domains FOR SELECT TO usage_monitor_app
    USING (domain_hash = (SELECT current_lookup()));

GRANT SELECT, INSERT, UPDATE, DELETE ON identity_providers TO usage_monitor_app;
GRANT SELECT, INSERT, DELETE ON identity_provider_domains, external_identities, completed_sign_ons TO usage_monitor_app;
