//! Sets of exact data in memory: loaded when a policy first needs them, exchanged when they change.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::decide::CompiledPolicy;
use crate::detect::{DataSet, ExactData, FINGERPRINT, Fingerprint, Fingerprinter, MOST_VALUES};
use crate::domain::OrgId;
use crate::store::{Change, Store, StoreError, StoredDataSet, TenantScope};

/// What all sets of a node may take of memory, in bytes: some fifty sets of a million values.
const MOST: usize = 512 << 20;

/// The sets that policies in use look for. A set that no policy in use names any more is let go with the last of them.
pub(super) struct DataSets {
    store: Store,
    live: Mutex<HashMap<OrgId, Vec<Live>>>,
    /// One load at a time, so that none that began earlier ends later.
    loading: tokio::sync::Mutex<()>,
}

struct Live {
    scope: TenantScope,
    data: Weak<ExactData>,
}

impl DataSets {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, live: Mutex::default(), loading: tokio::sync::Mutex::default() })
    }

    /// Loads what `policy` looks for and is not there yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when there is no memory left for it.
    pub(super) async fn ready(&self, policy: &CompiledPolicy, scope: TenantScope) -> Result<(), StoreError> {
        let missing: Vec<&Arc<ExactData>> = policy.exact_data().filter(|data| data.content().is_none()).collect();
        for data in missing {
            // Known before it is loaded, so that a change meanwhile is not missed.
            self.know(data, scope);
            let turn = self.loading.lock().await;
            // Another request may have had its turn before.
            if data.content().is_none() {
                self.load(data, scope).await?;
            }
            drop(turn);
        }
        Ok(())
    }

    fn know(&self, data: &Arc<ExactData>, scope: TenantScope) {
        let mut live = self.live.lock();
        let of_org = live.entry(scope.org_id()).or_default();
        of_org.retain(|live| live.data.strong_count() > 0);
        if !of_org.iter().any(|live| std::ptr::eq(live.data.as_ptr(), Arc::as_ptr(data))) {
            of_org.push(Live { scope, data: Arc::downgrade(data) });
        }
    }

    /// By whoever has the turn.
    async fn load(&self, data: &ExactData, scope: TenantScope) -> Result<(), StoreError> {
        let mut tx = self.store.read(scope).await?;
        let stored = tx.data_sets().load(data.name()).await?;
        drop(tx);
        if stored.is_none() {
            tracing::warn!(org.id = %scope.org_id(), data_set = data.name(), "a policy names exact data that is not there");
        }
        let made = tokio::task::spawn_blocking(move || stored.map_or_else(nothing, |stored| made(&stored)));
        let made = made.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if self.bytes() + made.bytes() > MOST {
            return Err(StoreError::Unavailable("no memory is left for exact data on this node".to_owned()));
        }
        data.exchange(Arc::new(made));
        Ok(())
    }

    async fn load_anew(&self, data: &ExactData, scope: TenantScope) -> Result<(), StoreError> {
        let _turn = self.loading.lock().await;
        self.load(data, scope).await
    }

    fn bytes(&self) -> usize {
        let live = self.live.lock();
        let contents = live.values().flatten().filter_map(|live| live.data.upgrade()?.content());
        contents.map(|content| content.bytes()).sum()
    }

    /// Loads anew what has changed, aside. What cannot be loaded stays as it was and is tried again until it can.
    pub(super) fn follow(self: &Arc<Self>, change: &Change) {
        let live = self.live.lock();
        let changed: Vec<(TenantScope, Arc<ExactData>)> = match change {
            Change::DataSet { org } => live.get(org).into_iter().flatten().filter_map(Live::held).collect(),
            Change::Everything => live.values().flatten().filter_map(Live::held).collect(),
            _ => return,
        };
        drop(live);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if changed.is_empty() {
            return;
        }
        let sets = Arc::clone(self);
        runtime.spawn(async move {
            for (scope, data) in changed {
                while let Err(error) = sets.load_anew(&data, scope).await {
                    tracing::warn!(org.id = %scope.org_id(), data_set = data.name(), %error, "exact data is not up to date");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        });
    }
}

impl Live {
    fn held(&self) -> Option<(TenantScope, Arc<ExactData>)> {
        Some((self.scope, self.data.upgrade()?))
    }
}

/// A set while values are added to it.
pub struct DataSetDraft {
    salt: [u8; 16],
    made: Fingerprinter,
    lengths: u128,
    found: BTreeSet<Fingerprint>,
}

impl Default for DataSetDraft {
    /// Empty, with a salt of its own.
    fn default() -> Self {
        let salt = rand::random();
        Self { salt, made: Fingerprinter::new(salt), lengths: 0, found: BTreeSet::new() }
    }
}

impl DataSetDraft {
    /// Goes on with a set.
    #[must_use]
    pub fn of(stored: &StoredDataSet) -> Self {
        let (fingerprints, _) = stored.fingerprints.as_chunks::<FINGERPRINT>();
        Self {
            salt: stored.salt,
            made: Fingerprinter::new(stored.salt),
            lengths: stored.lengths,
            found: fingerprints.iter().map(Fingerprint::from_bytes).collect(),
        }
    }

    /// False when the value is none that can be looked for: shorter than 4 bytes without separators, longer than 127, or of more
    /// than 16 words.
    pub fn add(&mut self, value: &str) -> bool {
        let Some((fingerprint, length)) = self.made.of(value) else { return false };
        self.found.insert(fingerprint);
        self.lengths |= 1 << length;
        true
    }

    /// Different values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether it holds more than a set may.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.len() > MOST_VALUES
    }

    #[must_use]
    pub fn to_stored(&self) -> StoredDataSet {
        let fingerprints = self.found.iter().flat_map(|fingerprint| fingerprint.to_bytes()).collect();
        StoredDataSet { salt: self.salt, lengths: self.lengths, fingerprints }
    }
}

/// Whether a set can be called so: 1 to 64 lower-case letters, digits and `_`, a letter first.
#[must_use]
pub fn is_data_set_name(name: &str) -> bool {
    super::custom::is_name(name)
}

fn nothing() -> DataSet {
    DataSet::new(Fingerprinter::new([0; 16]), 0, &[])
}

fn made(stored: &StoredDataSet) -> DataSet {
    let (fingerprints, _) = stored.fingerprints.as_chunks::<FINGERPRINT>();
    let fingerprints: Vec<Fingerprint> = fingerprints.iter().map(Fingerprint::from_bytes).collect();
    DataSet::new(Fingerprinter::new(stored.salt), stored.lengths, &fingerprints)
}
