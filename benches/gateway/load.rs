//! The load and the upstream, in this process: blocking sockets, a thread a connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Thank you."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

/// Load and upstream share one core, so that the system under test has the other for itself.
pub fn pin_this_process() {
    pin(std::process::id(), 1);
}

pub fn pin(pid: u32, core: u32) {
    let done = Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()]).output();
    assert!(done.is_ok_and(|output| output.status.success()), "taskset could not pin process {pid} to core {core}");
}

/// An upstream that answers every request with the same completion, on keep-alive connections.
pub fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut body = Vec::new();
    while let Some(head) = head(&mut reader) {
        body.resize(content_length(&head), 0);
        if reader.read_exact(&mut body).is_err() || writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn head(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head.get(start..)? == "\r\n" {
            return Some(head);
        }
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0)
}

/// One keep-alive connection of a client.
pub struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    buffer: Vec<u8>,
    head: String,
}

impl Client {
    pub fn new(address: SocketAddr, key: &str) -> Self {
        let writer = TcpStream::connect(address).expect("the system accepts connections");
        writer.set_nodelay(true).expect("a socket option");
        let reader = BufReader::new(writer.try_clone().expect("a second handle"));
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        );
        Self { writer, reader, buffer: Vec::new(), head }
    }

    /// Sends one request in one write; returns the status.
    pub fn send(&mut self, body: &[u8]) -> u16 {
        self.buffer.clear();
        write!(self.buffer, "{}content-length: {}\r\n\r\n", self.head, body.len()).expect("memory");
        self.buffer.extend_from_slice(body);
        self.writer.write_all(&self.buffer).expect("the system reads requests");
        let head = head(&mut self.reader).expect("the system answers");
        let mut answer = vec![0; content_length(&head)];
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            self.chunks();
        } else {
            self.reader.read_exact(&mut answer).expect("a whole answer");
        }
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    fn chunks(&mut self) {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("a chunk size");
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).expect("a whole chunk");
            if size == 0 {
                return;
            }
        }
    }
}

/// Sends `requests` over `connections`; every answer must have the status `expected`.
pub fn run(address: SocketAddr, key: &str, bodies: &[Vec<u8>], requests: usize, connections: usize, expected: u16) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = Client::new(address, key);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= requests {
                        return;
                    }
                    let status = client.send(&bodies[n % bodies.len()]);
                    assert_eq!(status, expected, "an unexpected answer");
                }
            });
        }
    });
}

/// Milliseconds of each of `requests` on one connection.
pub fn latencies(address: SocketAddr, key: &str, bodies: &[Vec<u8>], requests: usize) -> Vec<f64> {
    let mut client = Client::new(address, key);
    (0..requests)
        .map(|n| {
            let begun = Instant::now();
            client.send(&bodies[n % bodies.len()]);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}
