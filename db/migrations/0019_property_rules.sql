-- Property rules: what of an event's properties is kept, masked or dropped before the event is durable.

CREATE TABLE property_rules (
    enterprise_id uuid        NOT NULL,
    rule_id       uuid        NOT NULL,              -- UUIDv7
    version       int         NOT NULL CHECK (version > 0),
    property      text        NOT NULL CHECK (length(property) BETWEEN 1 AND 100),   -- a name, or the beginning of names and a star
    feature_name  text        NOT NULL DEFAULT '',   -- '': all features
    action        text        NOT NULL CHECK (action IN ('ALLOW', 'MASK', 'DROP')),
    created_by    uuid        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (enterprise_id, rule_id)
);
-- One rule says what happens, so it does not matter which was made first. Case does not count: see PropertyNames.
CREATE UNIQUE INDEX property_rules_subject ON property_rules (enterprise_id, upper(property), feature_name);

CREATE TABLE property_defaults (
    enterprise_id uuid        PRIMARY KEY,
    version       int         NOT NULL CHECK (version > 0),
    other_action  text        NOT NULL CHECK (other_action IN ('ALLOW', 'MASK', 'DROP')),   -- of properties that no rule is about
    email_action  text        NOT NULL CHECK (email_action IN ('ALLOW', 'MASK', 'DROP')),   -- of values that look like one
    card_action   text        NOT NULL CHECK (card_action IN ('ALLOW', 'MASK', 'DROP')),
    token_action  text        NOT NULL CHECK (token_action IN ('ALLOW', 'MASK', 'DROP')),
    updated_by    uuid        NOT NULL,
    updated_at    timestamptz NOT NULL
);

SELECT wall_in(tenant_table) FROM unnest(ARRAY['property_rules', 'property_defaults']) AS tenant_table;
GRANT SELECT, INSERT, UPDATE, DELETE ON property_rules TO usage_monitor_app;
GRANT SELECT, INSERT, UPDATE ON property_defaults TO usage_monitor_app;
