//! The two systems under test, as child processes on a core of their own, one awake at a time.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load;

const CORE: u32 = 0;

pub struct System {
    child: Child,
    address: SocketAddr,
    key: String,
    /// Files of the system, removed with it.
    _folder: Option<tempfile::TempDir>,
}

impl System {
    /// The product as it ships, with an organization, a workspace and a key made through its own API.
    pub fn sentinel(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (gateway, admin) = (free_address(), free_address());
        let child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .arg("serve")
            .env("SENTINEL_DATA_DIR", folder.path())
            .env("SENTINEL_GATEWAY__LISTEN", gateway.to_string())
            .env("SENTINEL_GATEWAY__THREADS", "1")
            .env("SENTINEL_ADMIN__LISTEN", admin.to_string())
            .envs(
                ["OPENAI", "ANTHROPIC", "GEMINI", "BEDROCK", "OLLAMA"]
                    .map(|name| (format!("SENTINEL_UPSTREAMS__{name}__URL"), format!("http://{upstream}"))),
            )
            .env("SENTINEL_LOG__LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("sentinel starts");
        wait_for(gateway);
        wait_for(admin);
        let token = call(
            admin,
            "/auth/register",
            "",
            &json!({"email": "bench@example.com", "password": "SecurePass123!", "full_name": "Bench", "org_name": "Bench"}),
        );
        let bearer = format!("authorization: Bearer {}\r\n", token["access_token"].as_str().expect("a token"));
        let workspace = call(admin, "/workspaces", &bearer, &json!({"name": "bench"}));
        let key = call(admin, "/api-keys", &bearer, &json!({"workspace_id": workspace["id"], "name": "bench"}));
        let key = key["key"].as_str().expect("a key").to_owned();
        Self::ready(child, gateway, key, Some(folder))
    }

    /// pingora's proxy with nothing in its hooks.
    pub fn passthrough(upstream: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--passthrough", &upstream.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the pass-through starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
        let address = line.trim().parse().expect("its address");
        wait_for(address);
        Self::ready(child, address, "none".to_owned(), None)
    }

    fn ready(child: Child, address: SocketAddr, key: String, folder: Option<tempfile::TempDir>) -> Self {
        load::pin(child.id(), CORE);
        let system = Self { child, address, key, _folder: folder };
        system.signal("STOP");
        system
    }

    /// CPU microseconds per request.
    pub fn measure(&mut self, bodies: &[Vec<u8>], requests: usize, connections: usize, expected: u16) -> f64 {
        self.signal("CONT");
        let before = self.cpu();
        load::run(self.address, &self.key, bodies, requests, connections, expected);
        // The rows of the last requests are written a moment later.
        std::thread::sleep(Duration::from_millis(300));
        let spent = self.cpu() - before;
        self.signal("STOP");
        spent.as_secs_f64() * 1e6 / requests as f64
    }

    pub fn latencies(&mut self, bodies: &[Vec<u8>], requests: usize) -> Vec<f64> {
        self.signal("CONT");
        let latencies = load::latencies(self.address, &self.key, bodies, requests);
        self.signal("STOP");
        latencies
    }

    pub fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
    }

    /// Time that all threads of the system have been on a CPU.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the system runs");
        let nanoseconds = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(nanoseconds)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "could not send {name}");
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.signal("CONT");
        // Asked first, so that a profiler around it can write down what it saw.
        self.signal("TERM");
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn wait_for(address: SocketAddr) {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// POSTs JSON and reads the JSON answer.
fn call(address: SocketAddr, path: &str, headers: &str, body: &Value) -> Value {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).expect("the admin face");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(json).unwrap_or_else(|_| panic!("{path}: {answer}"))
}
