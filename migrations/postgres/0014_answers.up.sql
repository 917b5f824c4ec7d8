-- What was made of the answer: action, findings, coverage. Null where nobody looked at one.
ALTER TABLE audit_logs ADD COLUMN answer JSONB;
GRANT UPDATE (answer) ON audit_logs TO sentinel_runtime;
