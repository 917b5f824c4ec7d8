//! `/orgs/me/export`: everything that an organization has, as one download.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::try_unfold;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::admin_events::AdminEvent;
use super::api_keys::ApiKey;
use super::audit_logs::AuditLog;
use super::export::{self, Format};
use super::extract::{Authorized, ExportOrganization, Query};
use super::invitations::Invitation;
use super::organizations::Organization;
use super::policies::Policy;
use super::problem::Problem;
use super::provider_credentials::ProviderCredential;
use super::saved_filters::SavedFilter;
use super::sso::Sso;
use super::trail::Act;
use super::users::User;
use super::workspace_members::Member;
use super::workspaces::Workspace;
use crate::domain::Timestamp;
use crate::store::{AdminEventFilter, AuditFilter, Page, PageRequest, TenantScope};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(export))
}

#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OrganizationExport {
    /// With the audit trail of requests, which may be long (true).
    audit_logs: Option<bool>,
}

/// A kind of thing, in the order in which they are written.
#[derive(Clone, Copy)]
enum Kind {
    Organization,
    User,
    Invitation,
    Sso,
    Workspace,
    Member,
    Policy,
    ApiKey,
    ProviderCredential,
    SavedFilter,
    AdminEvent,
    AuditLog,
}

impl Kind {
    const fn next(self) -> Option<Self> {
        Some(match self {
            Self::Organization => Self::User,
            Self::User => Self::Invitation,
            Self::Invitation => Self::Sso,
            Self::Sso => Self::Workspace,
            Self::Workspace => Self::Member,
            Self::Member => Self::Policy,
            Self::Policy => Self::ApiKey,
            Self::ApiKey => Self::ProviderCredential,
            Self::ProviderCredential => Self::SavedFilter,
            Self::SavedFilter => Self::AdminEvent,
            Self::AdminEvent => Self::AuditLog,
            Self::AuditLog => return None,
        })
    }
}

/// Export your organization
///
/// One JSON object a line, `{"type": …, "data": …}`: the organization, its people, open invitations, sign-on, workspaces and
/// their members, policies in all versions, API keys, provider credentials, saved filters and both audit trails, as the
/// operations show them. Secrets are not part of it, and neither is what was deleted. A download that breaks off is not
/// whole.
#[utoipa::path(get, path = "/orgs/me/export", tag = "organization", operation_id = "exportOrganization",
    security(("session" = ["org:export"])), params(OrganizationExport), responses(
    (status = 200, description = "Everything", content((String = "application/jsonl"))),
))]
async fn export(
    admin: Authorized<ExportOrganization>,
    State(api): State<Api>,
    Query(query): Query<OrganizationExport>,
) -> Result<Response, Problem> {
    // Up to now: what happens while the client reads, the record of this export first, is not part of it.
    let reader = Reader {
        scope: admin.session.scope,
        until: api.state.clock.now(),
        last: if query.audit_logs.unwrap_or(true) { Kind::AuditLog } else { Kind::AdminEvent },
        api,
    };
    let organization = admin.session.scope.org_id().uuid();
    admin.record(Act::new("organization.export").on("organization", organization).with(&query)).await?;
    // Read before the answer begins: what is wrong is still an error's answer.
    let first = reader.page(Kind::Organization, None).await?;
    let pages = try_unfold((Some(first), None, reader), |(page, place, reader)| async move {
        let (text, place) = match (page, place) {
            (Some(page), _) => page,
            (None, None) => return Ok(None),
            (None, Some((kind, cursor))) => reader.page(kind, cursor).await.map_err(|problem| {
                tracing::warn!(code = problem.code().as_str(), "an export broke off");
                std::io::Error::other("the rest could not be read")
            })?,
        };
        Ok::<_, std::io::Error>(Some((Bytes::from(text), (None, place, reader))))
    });
    Ok(export::download("organization", Format::Jsonl, pages))
}

/// Where the next page starts; None at the end.
type Place = Option<(Kind, Option<String>)>;

struct Reader {
    api: Api,
    scope: TenantScope,
    until: Timestamp,
    last: Kind,
}

impl Reader {
    /// The lines of one page, and where the next one starts.
    async fn page(&self, kind: Kind, cursor: Option<String>) -> Result<(String, Place), Problem> {
        let page = PageRequest { limit: export::PAGE, cursor };
        let mut tx = self.api.state.store.read(self.scope).await?;
        let (text, cursor) = match kind {
            Kind::Organization => {
                let record = tx.organization().get().await?;
                let requests = tx.organization().requests_this_month().await?;
                let page = Page { data: vec![record], next_cursor: None };
                lines("organization", page, |record| Organization::new(record, requests))
            }
            Kind::User => lines("user", tx.users().list(&page).await?, User::from),
            Kind::Invitation => lines("invitation", tx.invitations().list(&page).await?, Invitation::from),
            Kind::Sso => {
                let connection = tx.identity().connection().await?;
                let page = Page { data: connection.into_iter().collect(), next_cursor: None };
                lines("sso", page, |connection| Sso::of(connection, &self.api))
            }
            Kind::Workspace => lines("workspace", tx.workspaces().list(&page).await?, Workspace::from),
            Kind::Member => {
                let people = tx.users().list(&page).await?;
                let mut data = Vec::new();
                for person in people.data {
                    data.extend(tx.workspace_members().of(person.id).await?);
                }
                lines("workspace_member", Page { data, next_cursor: people.next_cursor }, Member::from)
            }
            Kind::Policy => lines("policy", tx.exports().policies(&page).await?, Policy::from),
            Kind::ApiKey => lines("api_key", tx.api_keys().list(None, &page).await?, ApiKey::from),
            Kind::ProviderCredential => {
                let page = tx.provider_credentials().list(None, &page).await?;
                lines("provider_credential", page, ProviderCredential::from)
            }
            Kind::SavedFilter => lines("saved_filter", tx.exports().saved_filters(&page).await?, SavedFilter::from),
            Kind::AdminEvent => {
                let filter = AdminEventFilter { to: Some(self.until), ..AdminEventFilter::default() };
                lines("admin_event", tx.admin_events().list(&filter, &page).await?, AdminEvent::from)
            }
            Kind::AuditLog => {
                let filter = AuditFilter { to: Some(self.until), ..AuditFilter::default() };
                lines("audit_log", tx.audit_logs().list(&filter, &page).await?, AuditLog::from)
            }
        };
        tx.commit().await?;
        let next = match cursor {
            Some(cursor) => Some((kind, Some(cursor))),
            None if kind as u8 == self.last as u8 => None,
            None => kind.next().map(|kind| (kind, None)),
        };
        Ok((text, next))
    }
}

fn lines<R, T: Serialize>(kind: &str, page: Page<R>, view: impl Fn(R) -> T) -> (String, Option<String>) {
    let rows = page.data.into_iter().map(view);
    let text = rows.map(|row| format!("{}\n", json!({ "type": kind, "data": row }))).collect();
    (text, page.next_cursor)
}
