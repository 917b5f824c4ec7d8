-- What opens a live stream of events, once. Ids are 16 bytes, times are microseconds since 1970 in UTC.

CREATE TABLE event_tickets (
    -- SHA-256 of the ticket.
    token_hash BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    -- Without a reference: sessions are pruned, and a ticket of one that is gone opens nothing.
    session_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

CREATE INDEX event_tickets_expiry ON event_tickets (expires_at);
