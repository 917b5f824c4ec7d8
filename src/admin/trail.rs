//! Every write is an event: what handlers say of an act, and what is kept of attempts that were refused.
//!
//! `Authorized::write` gives a [`WriteTx`], whose only way to commit takes an [`Act`]: a write without its event does not
//! compile. Acts that are refused (401, 403) are recorded by the middleware, at most [`PER_ADDRESS`] a minute from one
//! address and [`PER_MINUTE`] altogether, so that a flood of them cannot fill the database.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::problem::Problem;
use super::{Api, rates};
use crate::domain::{Timestamp, UserId};
use crate::limits::{Allowance, RateLimiter};
use crate::store::{Actor, ActorType, EventOutcome, NewAdminEvent, Origin, StoreError, TenantScope, TenantTx};

/// Refused attempts that are recorded in a minute: from one address, and from all.
const PER_ADDRESS: u32 = 60;
const PER_MINUTE: u32 = 600;
/// How long an answer waits for the record of a refusal.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a changed field that are kept; of a longer one its length and hash.
const FIELD_KEPT: usize = 4096;
/// Fields that change with every write and say nothing.
const NOISE: [&str; 2] = ["updated_at", "last_used_at"];
/// A field whose name has one of these words is never kept, whatever a handler passes.
const SECRET: [&str; 6] = ["password", "secret", "token", "ciphertext", "hash", "private_key"];

/// What was done, in one line: `tx.commit(Act::new("policy.update").on("policy", id.uuid()).changed(&old, &new))`.
pub struct Act {
    action: &'static str,
    target: Option<(&'static str, Option<Uuid>)>,
    before: Option<Value>,
    after: Option<Value>,
}

impl Act {
    /// `action` is `resource.verb`.
    #[must_use]
    pub const fn new(action: &'static str) -> Self {
        Self { action, target: None, before: None, after: None }
    }

    /// The thing that it was done to.
    #[must_use]
    pub const fn on(mut self, kind: &'static str, id: Uuid) -> Self {
        self.target = Some((kind, Some(id)));
        self
    }

    /// The thing as it was made, or what an export asked for.
    #[must_use]
    pub fn with(mut self, after: &impl Serialize) -> Self {
        self.after = differing(&Value::Null, &readable(after));
        self
    }

    /// The thing as it was before it went.
    #[must_use]
    pub fn without(mut self, before: &impl Serialize) -> Self {
        self.before = differing(&Value::Null, &readable(before));
        self
    }

    /// The thing before and after; the fields that differ are kept.
    #[must_use]
    pub fn changed<T: Serialize>(mut self, before: &T, after: &T) -> Self {
        let (before, after) = (readable(before), readable(after));
        self.before = differing(&after, &before);
        self.after = differing(&before, &after);
        self
    }

    /// The event of `who`.
    #[must_use]
    pub fn by(self, who: Who) -> NewAdminEvent {
        NewAdminEvent {
            actor: who.actor,
            action: self.action.to_owned(),
            target: self.target.map(|(kind, id)| (kind.to_owned(), id)),
            outcome: EventOutcome::Success,
            origin: who.origin,
            before: self.before,
            after: self.after,
        }
    }
}

fn readable(thing: &impl Serialize) -> Value {
    serde_json::to_value(thing).unwrap_or_default()
}

/// The fields of `this` that `other` has not, or has with another value; None when there are none. Secrets are named, not
/// shown; long values are named by their hash.
fn differing(other: &Value, this: &Value) -> Option<Value> {
    let Value::Object(fields) = this else {
        return (other != this && !this.is_null()).then(|| short(this));
    };
    let mut kept = Map::new();
    for (name, value) in fields {
        let before = other.get(name).unwrap_or(&Value::Null);
        if before == value || NOISE.contains(&name.as_str()) {
            continue;
        }
        let kept_value = if SECRET.iter().any(|word| name.contains(word)) && !value.is_boolean() {
            Value::from("[redacted]")
        } else if value.is_null() {
            Value::Null
        } else {
            match differing(before, value) {
                Some(value) => value,
                None => continue,
            }
        };
        kept.insert(name.clone(), kept_value);
    }
    (!kept.is_empty()).then(|| short(&Value::Object(kept)))
}

fn short(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= FIELD_KEPT {
        return value.clone();
    }
    let hash: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "bytes": text.len(), "sha256": hash })
}

/// Who acts, and from where.
#[derive(Clone, Debug, Default)]
pub struct Who {
    pub actor: Actor,
    pub origin: Origin,
}

impl Who {
    #[must_use]
    pub fn person(id: UserId, email: &str, origin: Origin) -> Self {
        Self { actor: Actor { kind: ActorType::User, id: Some(id.uuid()), email: Some(email.to_owned()) }, origin }
    }
}

/// A transaction that can be committed only together with its event.
pub struct WriteTx {
    tx: TenantTx,
    who: Who,
}

impl WriteTx {
    #[must_use]
    pub const fn new(tx: TenantTx, who: Who) -> Self {
        Self { tx, who }
    }

    /// Makes the changes and their event durable.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn commit(mut self, act: Act) -> Result<(), StoreError> {
        self.tx.admin_events().insert(act.by(self.who)).await?;
        self.tx.commit().await
    }
}

impl Deref for WriteTx {
    type Target = TenantTx;
    fn deref(&self) -> &TenantTx {
        &self.tx
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.tx
    }
}

/// What has become known of the request under way, should it be refused: who tries what.
#[derive(Clone, Default)]
pub struct Attempt(Arc<Mutex<Known>>);

#[derive(Clone, Default)]
struct Known {
    action: Option<&'static str>,
    scope: Option<TenantScope>,
    actor: Actor,
    allowance: Option<Allowance>,
}

impl Attempt {
    /// What is left of a rate limit; the tightest is told.
    pub fn allow(&self, allowance: Option<Allowance>) {
        let mut known = self.0.lock();
        known.allowance = rates::tighter(known.allowance, allowance);
    }

    /// What is left of the tightest rate limit.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        self.0.lock().allowance
    }

    /// By a person whom `scope`'s organization has.
    pub fn by(&self, scope: TenantScope, id: UserId, email: &str) {
        let mut known = self.0.lock();
        known.scope = Some(scope);
        known.actor = Actor { kind: ActorType::User, id: Some(id.uuid()), email: Some(email.to_owned()) };
    }

    /// What is tried; `request.authorize` when nobody says it.
    pub fn to(&self, action: &'static str) {
        self.0.lock().action = Some(action);
    }
}

/// Bounds the records of refusals.
pub struct Refusals {
    addresses: RateLimiter<Option<IpAddr>>,
    all: RateLimiter<()>,
}

impl Refusals {
    #[must_use]
    pub fn new() -> Self {
        Self { addresses: RateLimiter::new(), all: RateLimiter::new() }
    }

    fn admit(&self, address: Option<IpAddr>, now: Timestamp) -> bool {
        self.addresses.admit(address.map(network), PER_ADDRESS, now).is_ok()
            && self.all.admit((), PER_MINUTE, now).is_ok()
    }
}

/// One person's addresses: an IPv4 address, the /64 of an IPv6 address.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() & (u128::MAX << 64)).into()),
    }
}

/// Records a refused attempt, if the bounds allow it. What cannot be recorded is logged: the refusal stands.
pub async fn refused(api: &Api, attempt: &Attempt, origin: Origin, tried: Value) {
    let address = origin.ip.as_deref().and_then(|ip| ip.parse().ok());
    if !api.refusals.admit(address, api.state.clock.now()) {
        api.state.metrics.admin_events_dropped.inc();
        return;
    }
    let Known { action, scope, actor, .. } = attempt.0.lock().clone();
    let event = NewAdminEvent {
        actor,
        action: action.unwrap_or("request.authorize").to_owned(),
        target: None,
        outcome: EventOutcome::Refused,
        origin,
        before: None,
        after: Some(tried),
    };
    let recorded = tokio::time::timeout(PATIENCE, api.state.store.record_event(scope, event)).await;
    if !matches!(recorded, Ok(Ok(()))) {
        api.state.metrics.admin_events_dropped.inc();
        tracing::warn!("a refused attempt could not be recorded");
    }
}

/// Records an act that writes nothing else: a read of audit data, an export.
///
/// # Errors
/// 503: what cannot be recorded is not done.
pub async fn record(api: &crate::store::Store, scope: TenantScope, act: Act, who: Who) -> Result<(), Problem> {
    Ok(api.record_event(Some(scope), act.by(who)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_kept_and_nothing_else() {
        let before = json!({"name": "a", "settings": {"x": 1, "y": [1]}, "gone": 1, "updated_at": 1, "same": true});
        let after = json!({"name": "b", "settings": {"x": 1, "y": [2]}, "gone": null, "updated_at": 2, "same": true});
        let event = Act::new("thing.update").changed(&before, &after).by(Who::default());
        assert_eq!(event.before, Some(json!({"name": "a", "settings": {"y": [1]}, "gone": 1})));
        assert_eq!(event.after, Some(json!({"name": "b", "settings": {"y": [2]}, "gone": null})));
        let same = Act::new("thing.update").changed(&before, &before).by(Who::default());
        assert_eq!((same.before, same.after), (None, None));
    }

    #[test]
    fn secrets_and_long_values_are_named_and_not_kept() {
        let made = json!({"password_hash": "x", "nested": {"api_token": "x"}, "must_change_password": true,
            "document": "y".repeat(5000)});
        let kept = Act::new("thing.create").with(&made).by(Who::default()).after.unwrap();
        assert_eq!(kept["password_hash"], "[redacted]");
        assert_eq!(kept["nested"]["api_token"], "[redacted]");
        assert_eq!(kept["must_change_password"], true);
        assert_eq!(kept["document"]["bytes"], 5002);
    }

    #[test]
    fn refusals_are_recorded_up_to_a_bound_for_each_network() {
        let (refusals, now) = (Refusals::new(), Timestamp::from_micros(1_700_000_000_000_000));
        let at = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let admitted = (0..200).filter(|_| refusals.admit(at("2001:db8::1"), now)).count();
        assert_eq!(admitted, 60);
        assert!(!refusals.admit(at("2001:db8::2"), now), "the same network");
        assert!(refusals.admit(at("192.0.2.1"), now));
        let others = (0..200).map(|n| at(&format!("198.51.100.{n}"))).flat_map(|ip| [ip; 60]);
        assert_eq!(others.filter(|ip| refusals.admit(*ip, now)).count(), 600 - 61);
    }
}
