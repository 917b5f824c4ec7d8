-- Candidates on their way into force: what they are compared by, what came of it. Ids are 16 bytes, times are
-- microseconds since 1970 in UTC.

CREATE TABLE policy_rollouts (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    id BLOB NOT NULL PRIMARY KEY,
    -- The policy, the version that was in force at the beginning, and the draft that is to be, as it was then: an edited one
    -- is another.
    root_id BLOB NOT NULL,
    baseline_id BLOB NOT NULL,
    candidate_id BLOB NOT NULL,
    candidate_revision INTEGER NOT NULL,
    -- `shadow`, `canary`; `promoted`, `stopped`, `rolled_back`, `superseded`
    state TEXT NOT NULL,
    -- Counts begin anew with each change.
    run INTEGER NOT NULL DEFAULT 1,
    percentage INTEGER NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    -- `caller`, `user`
    assignment TEXT NOT NULL,
    guards TEXT NOT NULL,
    -- Why it ended.
    reason TEXT,
    created_by BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, root_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, baseline_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, candidate_id) REFERENCES policies (org_id, id)
) STRICT;

CREATE UNIQUE INDEX policy_rollouts_running ON policy_rollouts (org_id, root_id) WHERE ended_at IS NULL;

CREATE TABLE policy_rollout_counts (
    org_id BLOB NOT NULL,
    rollout_id BLOB NOT NULL,
    run INTEGER NOT NULL,
    -- The policy that acts: `live`, `candidate`
    arm TEXT NOT NULL,
    requests INTEGER NOT NULL,
    blocked INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    overhead_us INTEGER NOT NULL,
    compared INTEGER NOT NULL,
    differing INTEGER NOT NULL,
    newly_blocked INTEGER NOT NULL,
    newly_passed INTEGER NOT NULL,
    PRIMARY KEY (org_id, rollout_id, run, arm),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
) STRICT;

CREATE TABLE policy_differences (
    org_id BLOB NOT NULL,
    rollout_id BLOB NOT NULL,
    run INTEGER NOT NULL,
    rule_id TEXT NOT NULL,
    live_action TEXT NOT NULL,
    candidate_action TEXT NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (org_id, rollout_id, run, rule_id, live_action, candidate_action),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
) STRICT;

-- Some of the requests on which the policies differ: places and hashes, never a text.
CREATE TABLE policy_difference_samples (
    org_id BLOB NOT NULL,
    rollout_id BLOB NOT NULL,
    -- The row of the audit trail.
    request_id BLOB NOT NULL,
    run INTEGER NOT NULL,
    workspace_id BLOB NOT NULL,
    occurred_at INTEGER NOT NULL,
    live_action TEXT NOT NULL,
    candidate_action TEXT NOT NULL,
    findings TEXT NOT NULL,
    PRIMARY KEY (org_id, rollout_id, request_id),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
) STRICT;
