//! One event: the message that says it, and what filters ask of it.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::admin_events::AdminEvent;
use super::super::audit_logs::AuditLog;
use crate::authn::{Permission, Session};
use crate::domain::{Action, ApiKeyId, Category, WorkspaceId};
use crate::store::{AdminEventRecord, AuditRow, EventOutcome, EventPosition};

/// What a stream says.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventMessage {
    /// A request was judged.
    Verdict {
        /// For `last_id`. Absent when the record came late.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        data: Box<AuditLog>,
    },
    /// Somebody acted on the admin face.
    AdminEvent {
        /// For `last_id`. Absent when the record came late.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Uuid>,
        data: Box<AdminEvent>,
    },
    /// Messages were left out here, because the client read too slowly.
    Dropped {
        /// How many.
        #[schema(minimum = 1)]
        count: u64,
    },
}

impl EventMessage {
    pub fn text(&self) -> Utf8Bytes {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Verdict,
    AdminEvent,
}

/// Some of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    pub verdicts: bool,
    pub admin_events: bool,
}

impl Kinds {
    pub const ALL: Self = Self { verdicts: true, admin_events: true };

    /// Those that the person may see.
    pub fn visible_to(session: &Session) -> Self {
        Self {
            verdicts: session.authority.has(Permission::ReadAudit),
            admin_events: session.authority.has(Permission::ReadAdminEvents),
        }
    }

    /// Of these the one that was asked for; all, when none was.
    pub fn and_only(self, kind: Option<EventKind>) -> Self {
        Self {
            verdicts: self.verdicts && kind != Some(EventKind::AdminEvent),
            admin_events: self.admin_events && kind != Some(EventKind::Verdict),
        }
    }

    pub const fn none(self) -> bool {
        !self.verdicts && !self.admin_events
    }

    pub const fn contain(self, others: Self) -> bool {
        (self.verdicts || !others.verdicts) && (self.admin_events || !others.admin_events)
    }
}

/// What one stream wants to see.
#[derive(Clone, Debug)]
pub struct Filter {
    pub kinds: Kinds,
    pub workspace_id: Option<WorkspaceId>,
    pub api_key_id: Option<ApiKeyId>,
    pub verdict: Option<Action>,
    pub category: Option<Category>,
    pub min_risk_score: u8,
    pub action: Option<String>,
    pub outcome: Option<EventOutcome>,
}

/// What filters ask.
enum Facts {
    Verdict {
        workspace_id: Option<WorkspaceId>,
        api_key_id: Option<ApiKeyId>,
        action: Action,
        categories: Vec<Category>,
        risk_score: u8,
    },
    AdminEvent {
        action: String,
        outcome: EventOutcome,
    },
}

/// An event, written once for all streams that want it.
pub struct Event {
    pub position: EventPosition,
    /// It reached the database after later ones had been sent.
    pub late: bool,
    pub text: Utf8Bytes,
    facts: Facts,
}

impl Event {
    pub fn of_verdict(row: AuditRow, late: bool) -> Self {
        let event = &row.event;
        let position = EventPosition { at: event.occurred_at, id: event.id.uuid() };
        // What was done with the request, or with its answer when that was more.
        let answer = row.completion.as_ref().and_then(|completion| completion.answer.as_deref());
        let action = answer.map_or(event.action, |answer| answer.action.max(event.action));
        let categories = event.categories.iter().chain(answer.into_iter().flat_map(|answer| &answer.categories));
        let categories = categories.copied().collect();
        let facts = Facts::Verdict {
            workspace_id: event.workspace_id,
            api_key_id: event.api_key_id,
            action,
            categories,
            risk_score: event.risk_score,
        };
        let message = EventMessage::Verdict { id: (!late).then_some(position.id), data: Box::new(row.into()) };
        Self { position, late, text: message.text(), facts }
    }

    pub fn of_act(record: AdminEventRecord, late: bool) -> Self {
        let position = EventPosition { at: record.occurred_at, id: record.id.uuid() };
        let facts = Facts::AdminEvent { action: record.action.clone(), outcome: record.outcome };
        let message = EventMessage::AdminEvent { id: (!late).then_some(position.id), data: Box::new(record.into()) };
        Self { position, late, text: message.text(), facts }
    }
}

fn holds<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
    wanted.is_none() || wanted == is
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        match &event.facts {
            Facts::Verdict { workspace_id, api_key_id, action, categories, risk_score } => {
                self.kinds.verdicts
                    && holds(self.workspace_id.as_ref(), workspace_id.as_ref())
                    && holds(self.api_key_id.as_ref(), api_key_id.as_ref())
                    && holds(self.verdict.as_ref(), Some(action))
                    && self.category.is_none_or(|category| categories.contains(&category))
                    && *risk_score >= self.min_risk_score
            }
            Facts::AdminEvent { action, outcome } => {
                self.kinds.admin_events
                    && holds(self.action.as_ref(), Some(action))
                    && holds(self.outcome.as_ref(), Some(outcome))
            }
        }
    }
}
