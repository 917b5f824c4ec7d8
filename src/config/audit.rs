use serde::{Deserialize, Serialize};

use super::{ByteSize, HumanDuration};

/// When the journal's file is synced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// Before a request is let through: survives a power cut, costs a disk write per group of requests.
    Always,
    /// Every `sync_interval`: survives `kill -9`; a power cut may lose at most the interval.
    #[default]
    Interval,
    /// Left to the operating system: survives `kill -9`.
    Never,
}

/// What happens to requests when the journal has no room left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Answer 503: what cannot be recorded is not served.
    #[default]
    Refuse,
    /// Serve without a row; counted in a metric and visible in `/health`.
    Allow,
}

/// The audit journal and its way into the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    pub sync: SyncMode,
    pub sync_interval: HumanDuration,
    /// Bytes that may wait for the database.
    pub max_backlog: ByteSize,
    pub when_full: WhenFull,
    /// Size at which a journal segment is closed.
    pub segment_size: ByteSize,
    /// Rows written in one transaction.
    pub batch: usize,
    /// How often the node signs how far its chains have come.
    pub checkpoint_interval: HumanDuration,
    pub retention: RetentionConfig,
}

/// Days that requests are kept, by tier; null: for good. Organizations may say less for themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    pub free: Option<u32>,
    pub starter: Option<u32>,
    pub pro: Option<u32>,
    pub enterprise: Option<u32>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            sync: SyncMode::Interval,
            sync_interval: HumanDuration::millis(100),
            max_backlog: ByteSize::mib(1024),
            when_full: WhenFull::Refuse,
            segment_size: ByteSize::mib(16),
            batch: 512,
            checkpoint_interval: HumanDuration::secs(600),
            retention: RetentionConfig::default(),
        }
    }
}
