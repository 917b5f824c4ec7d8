//! One JSON line per request of an application, written by a thread of its own: a slow disk costs lines, never a request.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::Serialize;

use crate::domain::{ApiKeyId, OrgId, Outcome, RequestId, Timestamp, WorkspaceId};

/// Lines that wait for the disk; what is beyond is dropped and counted.
const QUEUE: usize = 4096;
const STDOUT: &str = "stdout";

/// What is said of a request: nothing that it, its caller's end user or the answer contains.
#[derive(Debug, Serialize)]
pub struct AccessLine<'a> {
    pub time: Timestamp,
    pub request_id: RequestId,
    pub trace_id: String,
    pub method: &'a str,
    /// Without its query.
    pub path: &'a str,
    pub route: &'a str,
    pub status: u16,
    pub action: &'static str,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<WorkspaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_id: Option<ApiKeyId>,
    pub dialect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_us: u64,
    pub overhead_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
}

enum Message {
    Line(Vec<u8>),
    Reopen,
    Close,
}

pub struct AccessLog {
    queue: SyncSender<Message>,
    dropped: IntCounter,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// `target`: `stdout`, or a file that is appended to (made with mode 0640).
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(target: &Path, dropped: IntCounter) -> io::Result<Self> {
        let path = (target != Path::new(STDOUT)).then(|| target.to_owned());
        let out = Out::open(path.as_deref())?;
        let (queue, messages) = sync_channel(QUEUE);
        let lost = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(&messages, out, path.as_deref(), &lost))?;
        Ok(Self { queue, dropped, writer: Mutex::new(Some(writer)) })
    }

    /// Never waits.
    pub fn write(&self, line: &AccessLine<'_>) {
        let mut bytes = Vec::with_capacity(640);
        let written = serde_json::to_writer(&mut bytes, line).is_ok();
        bytes.push(b'\n');
        if !written || self.queue.try_send(Message::Line(bytes)).is_err() {
            self.dropped.inc();
        }
    }

    /// Opens the file anew, for whoever has renamed it.
    pub fn reopen(&self) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Reopen) {
            tracing::warn!("log.access is not opened anew: its queue is full");
        }
    }

    /// Writes what is waiting. Blocks.
    pub fn close(&self) {
        let _ = self.queue.send(Message::Close);
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

enum Out {
    File(File),
    Stdout,
}

impl Out {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        match path {
            Some(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path).map(Self::File),
            None => Ok(Self::Stdout),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
        }
    }
}

fn write(messages: &Receiver<Message>, mut out: Out, path: Option<&Path>, dropped: &IntCounter) {
    /// Lines are written together up to this size.
    const TOGETHER: usize = 64 << 10;
    let mut failed = false;
    while let Ok(first) = messages.recv() {
        let (mut bytes, mut lines, mut then) = (Vec::new(), 0, None);
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    bytes.extend_from_slice(&line);
                    lines += 1;
                }
                other => {
                    then = Some(other);
                    break;
                }
            }
            next = if bytes.len() < TOGETHER { messages.try_recv().ok() } else { None };
        }
        if let Err(error) = out.write_all(&bytes) {
            dropped.inc_by(lines);
            // Once for a full disk, not once a line.
            if !std::mem::replace(&mut failed, true) {
                tracing::error!(%error, "the access log cannot be written");
            }
        } else if lines > 0 {
            failed = false;
        }
        match then {
            Some(Message::Reopen) => match Out::open(path) {
                Ok(opened) => out = opened,
                Err(error) => tracing::error!(%error, "the access log cannot be opened anew; the old file goes on"),
            },
            Some(Message::Close) => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn line(status: u16) -> AccessLine<'static> {
        AccessLine {
            time: Timestamp::from_micros(0),
            request_id: RequestId::new(),
            trace_id: "1".repeat(32),
            method: "POST",
            path: "/v1/chat/completions",
            route: "/v1/chat/completions",
            status,
            action: "allow",
            outcome: Outcome::Completed,
            error_code: None,
            org_id: None,
            workspace_id: None,
            api_key_id: None,
            dialect: "openai",
            model: None,
            upstream: None,
            upstream_status: None,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            overhead_us: 0,
            ttfb_us: None,
            input_tokens: None,
            output_tokens: None,
        }
    }

    #[test]
    fn lines_are_written_in_order_and_a_renamed_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let dropped = IntCounter::new("dropped", "lines").unwrap();
        let log = AccessLog::open(&path, dropped.clone()).unwrap();
        (200..300).for_each(|status| log.write(&line(status)));
        let kept = folder.path().join("access.jsonl.1");
        std::fs::rename(&path, &kept).unwrap();
        log.reopen();
        log.write(&line(300));
        log.close();
        let read = |path: &PathBuf| -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let statuses: Vec<_> = read(&kept).iter().map(|line| line["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, (200..300).collect::<Vec<_>>());
        assert_eq!(read(&path).len(), 1);
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn what_a_full_disk_takes_is_counted_and_nobody_waits() {
        let dropped = IntCounter::new("dropped", "lines").unwrap();
        let log = AccessLog::open(Path::new("/dev/full"), dropped.clone()).unwrap();
        (0..3 * QUEUE).for_each(|_| log.write(&line(200)));
        log.close();
        assert_eq!(dropped.get(), 3 * QUEUE as u64);
    }
}
