//! HTTP as bytes: what a client library would never send, and answers read strictly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a test waits for a fact before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, read from the wire.
#[derive(Debug)]
pub struct RawReply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl RawReply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One HTTP/1.1 connection.
pub struct RawConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// The peer may close while we write: what it says is read afterwards.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next answer; None when the connection ended before one.
    pub async fn reply(&mut self) -> Option<RawReply> {
        tokio::time::timeout(PATIENCE, self.read_reply()).await.expect("no answer within the test's patience")
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    async fn read_reply(&mut self) -> Option<RawReply> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).expect("an ASCII head");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let mut reply = RawReply { status, head, body: Vec::new() };
        if status < 200 || status == 204 {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length").map(|n| n.parse::<usize>().expect("a length")) {
            while self.buffer.len() < length {
                assert!(self.fill().await, "the answer was cut: {reply:?}");
            }
            reply.body = self.buffer.drain(..length).collect();
        } else if reply.header("transfer-encoding").is_some() {
            reply.body = self.chunked().await?;
        } else {
            while self.fill().await {}
            reply.body = std::mem::take(&mut self.buffer);
        }
        Some(reply)
    }

    async fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                if !self.fill().await {
                    return None;
                }
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..line]).unwrap().trim(), 16).unwrap();
            while self.buffer.len() < line + 2 + size + 2 {
                if !self.fill().await {
                    return None;
                }
            }
            body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
            self.buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Waits until the peer closes; false when it keeps the connection for longer than `within`.
    pub async fn closes_within(&mut self, within: Duration) -> bool {
        tokio::time::timeout(within, async { while self.fill().await {} }).await.is_ok()
    }
}

/// Sends bytes on a connection of their own and reads one answer.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<RawReply> {
    let mut connection = RawConnection::open(address).await;
    connection.write(bytes).await;
    connection.reply().await
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// HTTP/2 frames by hand, for what the `h2` crate refuses to send.
pub mod http2 {
    use super::{Duration, PATIENCE, SocketAddr};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, flags];
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    /// Header fields as literals that are never indexed, without Huffman coding.
    pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.push(0x10);
            for text in [name, value] {
                integer(text.len(), &mut out);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    /// RFC 7541 5.1 with a prefix of seven bits.
    fn integer(mut n: usize, out: &mut Vec<u8>) {
        if n < 127 {
            out.push(u8::try_from(n).unwrap());
            return;
        }
        out.push(127);
        n -= 127;
        while n >= 128 {
            out.push(u8::try_from(n % 128 + 128).unwrap());
            n /= 128;
        }
        out.push(u8::try_from(n).unwrap());
    }

    /// Frames that arrived.
    #[derive(Debug)]
    pub struct Frame {
        pub kind: u8,
        pub stream: u32,
        pub payload: Vec<u8>,
    }

    impl Frame {
        /// The status of an answer's HEADERS, where its field is one of the static table or a plain literal.
        pub fn status(&self) -> Option<u16> {
            let mut block = self.payload.as_slice();
            while let [first, rest @ ..] = block
                && first & 0xE0 == 0x20
            {
                block = rest;
            }
            match block {
                [0x88, ..] => Some(200),
                [0x89, ..] => Some(204),
                [0x8C, ..] => Some(400),
                [0x8D, ..] => Some(404),
                [0x8E, ..] => Some(500),
                // A literal with the name of index 8 (`:status`): `0x48`, length 3, digits or Huffman of them.
                [0x48 | 0x08, 0x03, a, b, c, ..] => std::str::from_utf8(&[*a, *b, *c]).ok()?.parse().ok(),
                [0x48 | 0x08, 0x82, a, b, ..] => huffman_digits(&[*a, *b]),
                [0x48 | 0x08, 0x83, a, b, c, ..] => huffman_digits(&[*a, *b, *c]),
                _ => None,
            }
        }
    }

    /// Digits in the code of RFC 7541 appendix B: `0`–`2` have five bits, `3`–`9` six.
    fn huffman_digits(bytes: &[u8]) -> Option<u16> {
        let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
        let (mut at, mut value, mut digits) = (0, 0, 0);
        while digits < 3 {
            let take = |n: usize| bits.get(at..at + n).map(|s| s.iter().fold(0_u16, |a, b| a << 1 | u16::from(*b)));
            let five = take(5)?;
            if five < 3 {
                value = value * 10 + five;
                at += 5;
            } else {
                let six = take(6)?;
                value = value * 10 + six.checked_sub(0x19)? + 3;
                at += 6;
            }
            digits += 1;
        }
        Some(value)
    }

    pub struct Connection {
        stream: TcpStream,
    }

    impl Connection {
        /// Opens with prior knowledge and sends the preface.
        pub async fn open(address: SocketAddr) -> Self {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            Self { stream }
        }

        pub async fn send(&mut self, bytes: &[u8]) -> bool {
            self.stream.write_all(bytes).await.is_ok()
        }

        /// The next frame; None at the end of the connection.
        pub async fn next(&mut self) -> Option<Frame> {
            let read = async {
                let mut head = [0; 9];
                self.stream.read_exact(&mut head).await.ok()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                self.stream.read_exact(&mut payload).await.ok()?;
                let stream = u32::from_be_bytes([head[5] & 0x7F, head[6], head[7], head[8]]);
                Some(Frame { kind: head[3], stream, payload })
            };
            tokio::time::timeout(PATIENCE, read).await.expect("no frame within the test's patience")
        }

        /// The first answer, reset or end of the connection for `stream`.
        pub async fn answer(&mut self, stream: u32) -> Answer {
            loop {
                match self.next().await {
                    None => return Answer::Closed,
                    Some(frame) if frame.kind == HEADERS && frame.stream == stream => {
                        return Answer::Status(frame.status().unwrap_or_else(|| panic!("{frame:?}")));
                    }
                    Some(frame) if frame.kind == RST_STREAM && frame.stream == stream => return Answer::Reset,
                    Some(frame) if frame.kind == GOAWAY => return Answer::GoAway,
                    Some(_) => {}
                }
            }
        }

        pub async fn closes_within(&mut self, within: Duration) -> bool {
            tokio::time::timeout(within, async { while self.next().await.is_some() {} }).await.is_ok()
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Answer {
        Status(u16),
        Reset,
        GoAway,
        Closed,
    }
}
