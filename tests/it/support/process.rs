//! The real binary as a child process, with its log in a file.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::raw::PATIENCE;

/// What the command line says as JSON, run as another process.
pub async fn command(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
    command.args(arguments).env("SENTINEL_DATA_DIR", folder.join("data")).envs(settings.iter().copied());
    let output = tokio::task::block_in_place(|| command.output()).expect("the binary starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub struct Process {
    child: Child,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// `sentinel serve` on free ports, its data in `folder`, in development unless `settings` say otherwise.
    pub fn serve(folder: &Path, provider: &str, settings: &[(&str, &str)]) -> Self {
        let mut process =
            Self::start(folder, provider, settings, (free_address(), free_address()), &["serve"], "sentinel.log");
        process.wait_until_it_listens();
        process
    }

    /// Another process on the same data, which takes this one's place.
    pub fn successor(&self, folder: &Path, provider: &str, settings: &[(&str, &str)]) -> Self {
        let (addresses, log) = ((self.gateway, self.admin), format!("{}-successor.log", self.child.id()));
        Self::start(folder, provider, settings, addresses, &["serve", "--take-over"], &log)
    }

    fn start(
        folder: &Path,
        provider: &str,
        settings: &[(&str, &str)],
        (gateway, admin): (SocketAddr, SocketAddr),
        arguments: &[&str],
        log: &str,
    ) -> Self {
        let log = folder.join(log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command
            .args(arguments)
            .env("SENTINEL_DATA_DIR", folder.join("data"))
            .env("SENTINEL_GATEWAY__LISTEN", gateway.to_string())
            .env("SENTINEL_ADMIN__LISTEN", admin.to_string())
            .env("SENTINEL_AUTH__ARGON2_MEMORY_KIB", "64")
            .env("SENTINEL_AUTH__ARGON2_PASSES", "1")
            .env("SENTINEL_LOG__LEVEL", "debug")
            .envs(
                ["OPENAI", "ANTHROPIC", "GEMINI", "BEDROCK", "OLLAMA"]
                    .map(|name| (format!("SENTINEL_UPSTREAMS__{name}__URL"), provider)),
            )
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().append(true).create(true).open(&log).expect("a log file"));
        let child = command.spawn().expect("the binary starts");
        Self { child, gateway, admin, log }
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        for address in [self.gateway, self.admin] {
            while std::net::TcpStream::connect(address).is_err() {
                assert!(self.child.try_wait().unwrap().is_none(), "sentinel ended: {}", self.log());
                assert!(begun.elapsed() < PATIENCE, "nothing listens on {address}: {}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway)
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that the process has had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The exit of a process that ends by itself.
    pub fn wait(mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < 3 * PATIENCE, "sentinel does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit that follows.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
