//! The REST API: one file per resource, thin handlers. The only user of axum.
//!
//! A handler takes what `extract.rs` has already checked (who, may they, is the input what the contract says), calls the
//! store, and answers. Errors are made in `problem.rs` alone. Handlers are registered once, for routing and for the
//! OpenAPI document; `docs.rs` adds to the document what is the same for all.

mod admin_events;
mod answer;
mod api_keys;
mod audit_logs;
mod audit_reviews;
mod audit_settings;
mod auth;
mod conform;
mod data_sets;
mod docs;
mod events;
mod export;
mod extract;
mod feedback;
mod health;
mod idempotency;
mod invitations;
mod mfa;
mod middleware;
mod org_export;
mod org_lifecycle;
mod organizations;
mod pages;
mod passwords;
mod policies;
mod policy_drafts;
mod policy_replay;
mod policy_rollouts;
mod policy_versions;
mod problem;
mod process;
mod provider_credentials;
mod rates;
mod roles;
mod saved_filters;
mod scim;
mod serve;
mod sessions;
mod sso;
mod trail;
mod users;
mod workspace_members;
mod workspaces;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::authn::{KeyCache, LoginThrottle, Passwords, Providers, Sealer, Sessions, Tokens};
use crate::config::{Config, Environment};
use crate::detect::Engine;
use crate::domain::{Secret, SharedClock};
use crate::health::Health;
use crate::limits::{MonthlyUsage, RateLimiter};
use crate::mail::Mailer;
use crate::process::Processor;
use crate::store::Store;
use crate::telemetry::Metrics;

pub use docs::openapi_json;
pub use serve::serve;

/// What handlers need.
#[derive(Clone)]
pub struct AdminState {
    pub config: Arc<Config>,
    pub store: Store,
    pub keys: Arc<KeyCache>,
    pub sealer: Arc<Sealer>,
    pub engine: Arc<Engine>,
    pub limiter: Arc<RateLimiter>,
    pub usage: Arc<MonthlyUsage>,
    pub processor: Processor,
    pub health: Health,
    pub mailer: Mailer,
    pub metrics: Arc<Metrics>,
    pub clock: SharedClock,
}

/// [`AdminState`] and what is made of its configuration.
#[derive(Clone)]
struct Api {
    state: AdminState,
    passwords: Passwords,
    throttle: Arc<LoginThrottle>,
    sessions: Arc<Sessions>,
    providers: Option<Arc<Providers>>,
    refusals: Arc<trail::Refusals>,
    live: Arc<events::Live>,
    rates: Arc<rates::Rates>,
}

impl Api {
    fn new(state: AdminState, live: Arc<events::Live>) -> Self {
        let auth = &state.config.auth;
        let secret = auth.jwt_secret.clone().unwrap_or_else(|| {
            tracing::warn!("no auth.jwt_secret: access tokens end with this process");
            Secret::new(crate::authn::RefreshToken::generate().expose().to_owned())
        });
        let issuer = &state.config.admin.public_url;
        let tokens = Tokens::new(&secret, auth.previous_secrets(), issuer, auth.access_token_ttl.get());
        let passwords = Passwords::new(auth);
        let throttle = Arc::new(LoginThrottle::new(auth, state.store.clone(), state.clock.clone()));
        let sessions =
            Arc::new(Sessions::new(state.store.clone(), tokens, state.clock.clone(), auth.refresh_token_ttl.get()));
        let development = state.config.environment == Environment::Development;
        let providers = Providers::new(state.clock.clone(), development).ok().map(Arc::new);
        let rates = Arc::new(rates::Rates::new(&state.config.admin));
        let refusals = Arc::new(trail::Refusals::new());
        Self { state, passwords, throttle, sessions, providers, refusals, live, rates }
    }

    /// The client of sign-on providers.
    fn providers(&self) -> Result<&Providers, problem::Problem> {
        self.providers.as_deref().ok_or_else(|| problem::Problem::internal("TLS to sign-on providers cannot be set up"))
    }
}

/// The whole admin face: every path at the root and again below `/api/v1`.
fn router(state: AdminState, live: Arc<events::Live>) -> axum::Router {
    let api = Api::new(state, live);
    let routes = axum::Router::from(resources()).merge(docs::page()).merge(pages::pages());
    let everything = axum::Router::new()
        .nest("/api/v1", routes.clone())
        .merge(routes)
        .fallback(async || problem::Problem::not_found());
    middleware::around(everything, &api).with_state(api)
}

/// Every documented operation.
fn resources() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(docs::skeleton())
        .merge(auth::routes())
        .merge(passwords::routes())
        .merge(sessions::routes())
        .merge(mfa::routes())
        .merge(sso::routes())
        .merge(scim::routes())
        .merge(organizations::routes())
        .merge(org_lifecycle::routes())
        .merge(org_export::routes())
        .merge(users::routes())
        .merge(invitations::routes())
        .merge(roles::routes())
        .merge(workspaces::routes())
        .merge(workspace_members::routes())
        .merge(api_keys::routes())
        .merge(provider_credentials::routes())
        .merge(policies::routes())
        .merge(policy_rollouts::routes())
        .merge(policy_replay::routes())
        .merge(policy_versions::routes())
        .merge(policy_drafts::routes())
        .merge(audit_logs::routes())
        .merge(feedback::routes())
        .merge(admin_events::routes())
        .merge(audit_reviews::routes())
        .merge(audit_settings::routes())
        .merge(data_sets::routes())
        .merge(saved_filters::routes())
        .merge(events::routes())
        .merge(process::routes())
        .merge(health::routes())
        .merge(docs::routes())
}
