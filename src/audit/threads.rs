//! The journal's own threads. One writes what nobody waits for (and everything, with `sync: always`), one syncs at the interval.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::journal::{Core, FLUSH_DELAY};
use crate::config::SyncMode;

/// Empty rounds after which the writer thread stops looking by itself. While there is traffic, looking 250 times a second is
/// cheaper than waking the thread for every completion.
const QUIET_ROUNDS: u32 = 25;
/// Pause after a failed write.
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Joins the threads when it is dropped or asked to.
pub(super) struct Threads {
    core: Arc<Core>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn start(core: &Arc<Core>) -> std::io::Result<Self> {
        let threads = Self { core: Arc::clone(core), running: Mutex::default() };
        threads.spawn("audit-writer", write)?;
        if core.config.sync == SyncMode::Interval {
            threads.spawn("audit-sync", sync)?;
        }
        Ok(threads)
    }

    fn spawn(&self, name: &str, run: fn(&Core)) -> std::io::Result<()> {
        let core = Arc::clone(&self.core);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&core))?;
        self.running.lock().push(thread);
        Ok(())
    }

    /// Takes nothing more, writes and syncs what is there, and returns when that is done. The second call does nothing.
    pub(super) fn stop(&self) {
        // Held throughout, so that a second caller returns when the work is done, too.
        let mut running = self.running.lock();
        if running.is_empty() {
            return;
        }
        self.core.intake.lock().closed = true;
        self.core.work.notify_all();
        // In the order they were started: what the writer wrote last is still synced.
        for (index, thread) in running.drain(..).enumerate() {
            if index > 0 {
                self.core.unsynced.lock().stop = true;
                self.core.sync_due.notify_all();
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the audit journal panicked");
            }
        }
        self.core.finish();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write(core: &Core) {
    let mut quiet = 0;
    let mut pause = FLUSH_DELAY;
    loop {
        let mut intake = core.intake.lock();
        if !intake.urgent && !intake.closed {
            if quiet < QUIET_ROUNDS || !intake.is_empty() {
                core.work.wait_for(&mut intake, pause);
            } else {
                intake.writer_asleep = true;
                core.work.wait(&mut intake);
                intake.writer_asleep = false;
                quiet = 0;
                continue;
            }
        }
        intake.urgent = false;
        let (closed, empty) = (intake.closed, intake.is_empty());
        drop(intake);
        quiet = if empty { quiet + 1 } else { 0 };
        pause = if core.flush_waiting() { FLUSH_DELAY } else { FAILED_PAUSE };
        if closed {
            return;
        }
    }
}

fn sync(core: &Core) {
    let mut last = Instant::now();
    loop {
        let (files, stop) = {
            let mut unsynced = core.unsynced.lock();
            while unsynced.files.is_empty() && !unsynced.stop {
                core.sync_due.wait(&mut unsynced);
            }
            let next = last + core.config.sync_interval.get();
            while !unsynced.stop && Instant::now() < next {
                core.sync_due.wait_until(&mut unsynced, next);
            }
            (std::mem::take(&mut unsynced.files), unsynced.stop)
        };
        last = Instant::now();
        for active in files {
            core.sync(&active);
        }
        if stop {
            return;
        }
    }
}
