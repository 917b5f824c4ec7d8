DROP TABLE change_notices;
DROP TABLE saved_filters;
DROP TABLE idempotency_keys;
DROP TABLE subscriptions;
DROP TABLE reports;
DROP TABLE jobs;
DROP TABLE provider_credentials;
