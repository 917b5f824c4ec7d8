//! The audit trail of the admin face: who did what to which thing, from where, and what changed. Append-only.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::engine::Tx;
use super::page::END_OF_TIME;
use super::sort::{Directions, Value as Place};
use super::statement::{Statement, TenantSql, tenant_sql};
use super::values::parsed;
use super::{EventColumn, Page, PageRequest, Sort, StoreError, TenantTx};
use crate::domain::{AdminEventId, OrgId, Timestamp};

/// What kind of someone acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorType {
    /// A person; without an id when nobody could be recognised.
    #[default]
    User,
    ApiKey,
    /// Whoever runs this installation, by its command line.
    Operator,
    /// Sentinel itself.
    System,
}

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventOutcome {
    Success,
    /// Refused: no valid credential, or no permission.
    Refused,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl $type {
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
words!(ActorType { User = "user", ApiKey = "api_key", Operator = "operator", System = "system" });
words!(EventOutcome { Success = "success", Refused = "refused" });

/// Who acted. The address is kept only for people whom the organization has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorType,
    pub id: Option<Uuid>,
    pub email: Option<String>,
}

impl Actor {
    #[must_use]
    pub const fn operator() -> Self {
        Self { kind: ActorType::Operator, id: None, email: None }
    }
}

/// Where an act came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
}

/// An act to be recorded.
#[derive(Clone, Debug)]
pub struct NewAdminEvent {
    pub actor: Actor,
    /// `resource.verb`, such as `policy.update`.
    pub action: String,
    /// The kind of thing that it was done to, and which one.
    pub target: Option<(String, Option<Uuid>)>,
    pub outcome: EventOutcome,
    pub origin: Origin,
    /// The fields that changed, as they were and as they are. Without secrets.
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl NewAdminEvent {
    /// A successful act of whoever runs this installation.
    #[must_use]
    pub fn by_operator(action: &str, kind: &str, id: Uuid) -> Self {
        Self {
            actor: Actor::operator(),
            action: action.to_owned(),
            target: Some((kind.to_owned(), Some(id))),
            outcome: EventOutcome::Success,
            origin: Origin::default(),
            before: None,
            after: None,
        }
    }

    /// An act of Sentinel itself on an organization.
    #[must_use]
    pub fn by_system(action: &str, org: OrgId) -> Self {
        let actor = Actor { kind: ActorType::System, ..Actor::default() };
        Self { actor, ..Self::by_operator(action, "organization", org.uuid()) }
    }
}

/// A recorded act.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminEventRecord {
    pub id: AdminEventId,
    pub occurred_at: Timestamp,
    pub actor_type: ActorType,
    pub actor_id: Option<Uuid>,
    pub actor_email: Option<String>,
    pub action: String,
    pub target_type: Option<String>,
    pub target_id: Option<Uuid>,
    pub outcome: EventOutcome,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// All given conditions hold; `from` is included, `to` is not.
#[derive(Clone, Debug, Default)]
pub struct AdminEventFilter {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub actor_id: Option<Uuid>,
    pub action: Option<String>,
    pub target_type: Option<String>,
    pub target_id: Option<Uuid>,
    pub outcome: Option<EventOutcome>,
    pub sort: Sort<EventColumn>,
}

#[derive(sqlx::FromRow)]
pub(super) struct Stored {
    id: AdminEventId,
    occurred_at: Timestamp,
    actor_type: String,
    actor_id: Option<Uuid>,
    actor_email: Option<String>,
    action: String,
    target_type: Option<String>,
    target_id: Option<Uuid>,
    outcome: String,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    before: Option<Json<Value>>,
    after: Option<Json<Value>>,
}

impl Stored {
    pub(super) fn record(self) -> Result<AdminEventRecord, StoreError> {
        Ok(AdminEventRecord {
            id: self.id,
            occurred_at: self.occurred_at,
            actor_type: parsed("admin_events", "actor_type", self.actor_type)?,
            actor_id: self.actor_id,
            actor_email: self.actor_email,
            action: self.action,
            target_type: self.target_type,
            target_id: self.target_id,
            outcome: parsed("admin_events", "outcome", self.outcome)?,
            ip: self.ip,
            user_agent: self.user_agent,
            request_id: self.request_id,
            before: self.before.map(|json| json.0),
            after: self.after.map(|json| json.0),
        })
    }
}

/// Binds what follows the organization in both statements that insert.
fn bound(statement: Statement<'_>, event: NewAdminEvent, now: Timestamp) -> Statement<'_> {
    let (target_type, target_id) = event.target.unzip();
    statement
        .bind(AdminEventId::new())
        .bind(now)
        .bind(event.actor.kind.as_str())
        .bind(event.actor.id)
        .bind(event.actor.email)
        .bind(event.action)
        .bind(target_type)
        .bind(target_id.flatten())
        .bind(event.outcome.as_str())
        .bind(event.origin.ip)
        .bind(event.origin.user_agent)
        .bind(event.origin.request_id)
        .bind(event.before.map(Json))
        .bind(event.after.map(Json))
}

/// Records an act that belongs to no organization.
pub(super) async fn insert_without_organization(
    tx: &mut Tx,
    event: NewAdminEvent,
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: &str = "
        INSERT INTO admin_events (id, occurred_at, actor_type, actor_id, actor_email, action, target_type, target_id,
            outcome, ip, user_agent, request_id, before, after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    bound(tx.statement(INSERT), event, now).execute().await?;
    Ok(())
}

/// What was done in the organization.
pub struct AdminEvents<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl AdminEvents<'_> {
    /// Records an act in the transaction that does it: there is no one without the other.
    pub async fn insert(&mut self, event: NewAdminEvent) -> Result<(), StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO admin_events (org_id, id, occurred_at, actor_type, actor_id, actor_email, action, target_type,
                target_id, outcome, ip, user_agent, request_id, before, after)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
        );
        let now = self.tx.now();
        bound(self.tx.statement(INSERT), event, now).execute().await?;
        Ok(())
    }

    pub async fn list(
        &mut self,
        filter: &AdminEventFilter,
        page: &PageRequest,
    ) -> Result<Page<AdminEventRecord>, StoreError> {
        macro_rules! list {
            ($beyond:literal, $direction:literal) => {
                tenant_sql!(
                    "SELECT id, occurred_at, actor_type, actor_id, actor_email, action, target_type, target_id, outcome,
                        ip, user_agent, request_id, before, after
                    FROM admin_events
                    WHERE org_id = $1
                        AND (occurred_at, id) ",
                    $beyond,
                    " ($2, $3)
                        AND occurred_at >= $4
                        AND occurred_at < $5
                        AND ($6 IS NULL OR actor_id = $6)
                        AND ($7 IS NULL OR action = $7)
                        AND ($8 IS NULL OR target_type = $8)
                        AND ($9 IS NULL OR target_id = $9)
                        AND ($10 IS NULL OR outcome = $10)
                    ORDER BY occurred_at ",
                    $direction,
                    ", id ",
                    $direction,
                    " LIMIT $11"
                )
            };
        }
        let both = Directions { ascending: list!(">", "ASC"), descending: list!("<", "DESC") };
        let sort = filter.sort;
        let (beyond, id) = sort.start(page)?.after(sort.descending);
        let epoch = Timestamp::from_micros(0);
        let stored: Vec<Stored> = self
            .tx
            .statement(sort.of(both))
            .bind(beyond)
            .bind(id)
            .bind(filter.from.unwrap_or(epoch).clamp(epoch, END_OF_TIME))
            .bind(filter.to.unwrap_or(END_OF_TIME).clamp(epoch, END_OF_TIME))
            .bind(filter.actor_id)
            .bind(filter.action.as_deref())
            .bind(filter.target_type.as_deref())
            .bind(filter.target_id)
            .bind(filter.outcome.map(EventOutcome::as_str))
            .bind(page.rows())
            .all()
            .await?;
        let rows = stored.into_iter().map(Stored::record).collect::<Result<Vec<_>, _>>()?;
        Ok(sort.page(page, rows, |row| (Place::Time(row.occurred_at), row.id.uuid())))
    }
}
