DROP INDEX refresh_tokens_exchanged;
DROP INDEX sessions_expiry;
DROP TABLE login_lockouts;
DROP TABLE password_resets;
