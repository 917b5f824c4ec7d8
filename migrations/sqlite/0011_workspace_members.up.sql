-- What a person may do in one workspace beyond what they may do everywhere.
CREATE TABLE workspace_members (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    workspace_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    -- A JSON array of permissions.
    permissions TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, workspace_id, user_id),
    FOREIGN KEY (org_id, workspace_id) REFERENCES workspaces (org_id, id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

CREATE INDEX workspace_members_of_user ON workspace_members (org_id, user_id);
