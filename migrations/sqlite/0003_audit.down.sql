DROP TABLE admin_events;
DROP TABLE audit_logs;
