//! Records that are written together, and how their writers learn how it went.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::JournalError;

#[derive(Default)]
pub(super) struct Batch {
    outcome: OnceLock<Result<(), Arc<str>>>,
    settled: Notify,
}

impl Batch {
    pub(super) fn settle(&self, outcome: Result<(), Arc<str>>) {
        // Set once, by whoever wrote the batch.
        let _ = self.outcome.set(outcome);
        self.settled.notify_waiters();
    }

    /// None while it is not written.
    pub(super) fn outcome(&self) -> Option<Result<(), JournalError>> {
        let outcome = self.outcome.get()?;
        Some(outcome.as_ref().map(|&()| ()).map_err(|cause| JournalError::Io(cause.to_string())))
    }

    pub(super) async fn wait(&self) -> Result<(), JournalError> {
        loop {
            // Registered before the look, so that no settlement falls between the two.
            let settled = self.settled.notified();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            settled.await;
        }
    }
}
