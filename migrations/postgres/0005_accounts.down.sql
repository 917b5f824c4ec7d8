REVOKE DELETE ON sessions, refresh_tokens FROM sentinel_runtime;
DROP POLICY refresh_tokens_unscoped_delete ON refresh_tokens;
DROP POLICY sessions_unscoped_delete ON sessions;
DROP INDEX refresh_tokens_exchanged;
DROP INDEX sessions_expiry;
DROP TABLE login_lockouts;
DROP TABLE password_resets;
