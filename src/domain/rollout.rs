//! How a version of a policy comes into force by steps: it judges beside the version in force, then a share of the traffic, then
//! all of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::verdict::Action;

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It judges what the version in force judges, and nothing is done about it.
    Shadow,
    /// It judges a share of the traffic for good; both judge everything, so that they can be compared.
    Canary,
    /// It has become the version in force.
    Promoted,
    /// Somebody took it back.
    Stopped,
    /// A guard took it back.
    RolledBack,
    /// Another version came into force meanwhile.
    Superseded,
}

impl RolloutState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Promoted => "promoted",
            Self::Stopped => "stopped",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
        }
    }
}

/// Whose requests go the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Those of an API key.
    #[default]
    Caller,
    /// Those of an end user (`user_id`); of an API key where a request names none.
    User,
}

impl Assignment {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::User => "user",
        }
    }
}

/// Which of the two policies acts on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Live,
    Candidate,
}

impl Arm {
    pub const ALL: [Self; 2] = [Self::Live, Self::Candidate];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Candidate => "candidate",
        }
    }
}

/// What came of the requests of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ArmCounts {
    pub requests: u64,
    /// Refused by the policy that acts, request or answer.
    pub blocked: u64,
    /// Answered with a status of 500 or more.
    pub errors: u64,
    /// Microseconds that were not spent upstream, all requests together.
    pub overhead_us: u64,
    /// Judged by both policies.
    pub compared: u64,
    /// Judged differently.
    pub differing: u64,
    /// Blocked by the candidate only.
    pub newly_blocked: u64,
    /// Blocked by the version in force only.
    pub newly_passed: u64,
}

impl ArmCounts {
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.blocked += more.blocked;
        self.errors += more.errors;
        self.overhead_us += more.overhead_us;
        self.compared += more.compared;
        self.differing += more.differing;
        self.newly_blocked += more.newly_blocked;
        self.newly_passed += more.newly_passed;
    }
}

/// One rule with what each policy does about what it found: the strongest action in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleDifference {
    #[schema(example = "pii.credit_card")]
    pub rule_id: Box<str>,
    pub live_action: Action,
    pub candidate_action: Action,
}

/// When a canary is taken back without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutGuards {
    /// Requests under the candidate before anything is concluded.
    #[schema(minimum = 1, maximum = 1_000_000, default = 100)]
    pub min_requests: u64,
    /// Percentage points by which the candidate may block more than the version in force would have, of the same requests.
    /// Null: no guard.
    #[schema(minimum = 0, maximum = 100, default = 5.0)]
    pub max_block_rate_increase: Option<f64>,
    /// Percentage points by which more of its requests may end with a status of 500 or more.
    #[schema(minimum = 0, maximum = 100, default = 1.0)]
    pub max_error_rate_increase: Option<f64>,
    /// Percent by which its requests may take longer on their way through Sentinel, on average.
    #[schema(minimum = 0, maximum = 10_000, default = 100.0)]
    pub max_latency_increase: Option<f64>,
}

impl Default for RolloutGuards {
    fn default() -> Self {
        Self {
            min_requests: 100,
            max_block_rate_increase: Some(5.0),
            max_error_rate_increase: Some(1.0),
            max_latency_increase: Some(100.0),
        }
    }
}

/// A guard that was passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    pub guard: &'static str,
    /// Per cent, or microseconds for latency.
    pub live: f64,
    pub candidate: f64,
    /// As the guard has it.
    pub limit: f64,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, live, candidate, limit } = self;
        match *guard {
            LATENCY => write!(f, "{guard}: {candidate:.0} µs against {live:.0} µs, more than {limit} % longer"),
            _ => write!(f, "{guard}: {candidate:.2} % against {live:.2} %, more than {limit} points apart"),
        }
    }
}

const LATENCY: &str = "max_latency_increase";

impl RolloutGuards {
    /// The first guard that a canary has passed. Errors and latency are compared with the requests under the version in force;
    /// where those are fewer than `min_requests`, errors with none at all, and latency not.
    #[must_use]
    pub fn breach(&self, live: &ArmCounts, candidate: &ArmCounts) -> Option<Breach> {
        let least = self.min_requests.max(1);
        let over = |guard, limit: Option<f64>, live: f64, candidate: f64| {
            let limit = limit.filter(|limit| candidate - live > *limit)?;
            Some(Breach { guard, live, candidate, limit })
        };
        if candidate.compared >= least {
            let share = |blocked| percent(blocked, candidate.compared);
            let (new, gone) = (share(candidate.newly_blocked), share(candidate.newly_passed));
            // Answers are counted too: what was blocked is at least what both have blocked.
            let blocked = percent(candidate.blocked, candidate.requests.max(1)).max(new);
            let breach =
                over("max_block_rate_increase", self.max_block_rate_increase, (blocked - new + gone).max(0.0), blocked);
            if breach.is_some() {
                return breach;
            }
        }
        if candidate.requests < least {
            return None;
        }
        let known = live.requests >= least;
        let errors = if known { percent(live.errors, live.requests) } else { 0.0 };
        let own = percent(candidate.errors, candidate.requests);
        if let Some(breach) = over("max_error_rate_increase", self.max_error_rate_increase, errors, own) {
            return Some(breach);
        }
        let limit = self.max_latency_increase.filter(|_| known)?;
        let (live, candidate) = (mean(live), mean(candidate));
        (candidate > live * (1.0 + limit / 100.0)).then_some(Breach { guard: LATENCY, live, candidate, limit })
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates; 2^52 requests are far away")]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a mean; 2^52 µs are 142 years")]
fn mean(counts: &ArmCounts) -> f64 {
    counts.overhead_us as f64 / counts.requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64) -> ArmCounts {
        ArmCounts { requests, compared: requests, overhead_us: requests * 100, ..ArmCounts::default() }
    }

    #[test]
    fn a_guard_is_passed_by_what_the_candidate_alone_does_and_never_before_the_least_sample() {
        let guards = RolloutGuards::default();
        let live = ArmCounts { blocked: 500, errors: 5, ..counts(1000) };
        let bad = ArmCounts { blocked: 60, newly_blocked: 10, ..counts(100) };
        let breach = guards.breach(&live, &bad).unwrap();
        assert_eq!((breach.guard, breach.live, breach.candidate), ("max_block_rate_increase", 50.0, 60.0));
        assert!(breach.to_string().contains("60.00 % against 50.00 %"), "{breach}");
        assert_eq!(guards.breach(&live, &ArmCounts { requests: 99, compared: 99, ..bad }), None, "too few");
        let even = ArmCounts { newly_passed: 6, ..bad };
        assert_eq!(guards.breach(&live, &even), None, "it also lets pass");
        let off = RolloutGuards { max_block_rate_increase: None, ..guards };
        assert_eq!(off.breach(&live, &bad), None);
    }

    #[test]
    fn errors_and_latency_are_compared_with_the_version_in_force() {
        let guards = RolloutGuards::default();
        let live = ArmCounts { errors: 20, ..counts(1000) };
        assert_eq!(guards.breach(&live, &ArmCounts { errors: 3, ..counts(100) }), None);
        let breach = guards.breach(&live, &ArmCounts { errors: 4, ..counts(100) }).unwrap();
        assert_eq!(breach.guard, "max_error_rate_increase");
        let slow = ArmCounts { overhead_us: 20_100, ..counts(100) };
        assert_eq!(guards.breach(&live, &slow).unwrap().guard, "max_latency_increase");
        assert_eq!(guards.breach(&counts(50), &slow), None, "nothing to compare it with");
        let failing = ArmCounts { errors: 2, ..counts(100) };
        assert!(guards.breach(&counts(0), &failing).is_some(), "without a live arm, errors count as they are");
    }
}
