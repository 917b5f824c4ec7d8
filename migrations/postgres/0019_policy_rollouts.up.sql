-- Candidates on their way into force: what they are compared by, what came of it.

CREATE TABLE policy_rollouts (
    org_id UUID NOT NULL REFERENCES organizations (id),
    id UUID NOT NULL PRIMARY KEY,
    -- The policy, the version that was in force at the beginning, and the draft that is to be, as it was then: an edited one
    -- is another.
    root_id UUID NOT NULL,
    baseline_id UUID NOT NULL,
    candidate_id UUID NOT NULL,
    candidate_revision BIGINT NOT NULL,
    -- `shadow`, `canary`; `promoted`, `stopped`, `rolled_back`, `superseded`
    state TEXT NOT NULL,
    -- Counts begin anew with each change.
    run BIGINT NOT NULL DEFAULT 1,
    percentage BIGINT NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    -- `caller`, `user`
    assignment TEXT NOT NULL,
    guards JSONB NOT NULL,
    -- Why it ended.
    reason TEXT,
    created_by UUID,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, root_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, baseline_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, candidate_id) REFERENCES policies (org_id, id)
);

CREATE UNIQUE INDEX policy_rollouts_running ON policy_rollouts (org_id, root_id) WHERE ended_at IS NULL;

CREATE TABLE policy_rollout_counts (
    org_id UUID NOT NULL,
    rollout_id UUID NOT NULL,
    run BIGINT NOT NULL,
    -- The policy that acts: `live`, `candidate`
    arm TEXT NOT NULL,
    requests BIGINT NOT NULL,
    blocked BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    overhead_us BIGINT NOT NULL,
    compared BIGINT NOT NULL,
    differing BIGINT NOT NULL,
    newly_blocked BIGINT NOT NULL,
    newly_passed BIGINT NOT NULL,
    PRIMARY KEY (org_id, rollout_id, run, arm),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
);

CREATE TABLE policy_differences (
    org_id UUID NOT NULL,
    rollout_id UUID NOT NULL,
    run BIGINT NOT NULL,
    rule_id TEXT NOT NULL,
    live_action TEXT NOT NULL,
    candidate_action TEXT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (org_id, rollout_id, run, rule_id, live_action, candidate_action),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
);

-- Some of the requests on which the policies differ: places and hashes, never a text.
CREATE TABLE policy_difference_samples (
    org_id UUID NOT NULL,
    rollout_id UUID NOT NULL,
    -- The row of the audit trail.
    request_id UUID NOT NULL,
    run BIGINT NOT NULL,
    workspace_id UUID NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    live_action TEXT NOT NULL,
    candidate_action TEXT NOT NULL,
    findings JSONB NOT NULL,
    PRIMARY KEY (org_id, rollout_id, request_id),
    FOREIGN KEY (org_id, rollout_id) REFERENCES policy_rollouts (org_id, id)
);

ALTER TABLE policy_rollouts ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_rollouts FORCE ROW LEVEL SECURITY;
CREATE POLICY policy_rollouts_tenant ON policy_rollouts
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE policy_rollout_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_rollout_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY policy_rollout_counts_tenant ON policy_rollout_counts
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE policy_differences ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_differences FORCE ROW LEVEL SECURITY;
CREATE POLICY policy_differences_tenant ON policy_differences
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE policy_difference_samples ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_difference_samples FORCE ROW LEVEL SECURITY;
CREATE POLICY policy_difference_samples_tenant ON policy_difference_samples
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

GRANT SELECT, INSERT, UPDATE ON policy_rollouts, policy_rollout_counts, policy_differences TO sentinel_runtime;
GRANT SELECT, INSERT ON policy_difference_samples TO sentinel_runtime;
