DROP TABLE scim_tokens;
DROP TABLE sso_connections;
ALTER TABLE sessions DROP COLUMN method;
ALTER TABLE users DROP COLUMN external_id;
ALTER TABLE users DROP COLUMN mfa_locked_until;
ALTER TABLE users DROP COLUMN mfa_failures;
