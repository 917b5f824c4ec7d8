REVOKE UPDATE (seq, hash) ON audit_logs FROM sentinel_runtime;
DROP TABLE audit_checkpoints;
DROP TABLE audit_chains;
