//! What the audit trail keeps of a verdict's findings.

use std::cmp::Reverse;

use crate::domain::{AuditFinding, Direction, Judged, Role, Verdict};

/// Findings in one audit row. A body of nothing but addresses has a million; the row is about the request, and its
/// action, risk and categories come from all of them.
const MAX_FINDINGS: usize = 256;

/// The findings of `verdict`, in its order; when there are too many, those with the strongest actions.
pub(super) fn findings(
    verdict: &Verdict,
    direction: Direction,
    role_of: impl Fn(usize) -> Role,
    path_of: impl Fn(usize) -> String,
) -> Vec<AuditFinding> {
    let mut judged: Vec<&Judged> = verdict.findings.iter().collect();
    if judged.len() > MAX_FINDINGS {
        // Stable, so that among equals the first ones stay.
        judged.sort_by_key(|judged| Reverse(judged.action));
        judged.truncate(MAX_FINDINGS);
    }
    judged
        .into_iter()
        .map(|Judged { finding, action }| AuditFinding {
            detector: finding.rule.detector,
            rule_id: finding.rule.id.to_string(),
            category: finding.rule.category,
            entity: finding.rule.entity.to_string(),
            severity: finding.rule.severity,
            confidence: finding.confidence,
            action: *action,
            direction,
            role: role_of(finding.segment),
            path: path_of(finding.segment),
            start: finding.span.start,
            end: finding.span.end,
        })
        .collect()
}
