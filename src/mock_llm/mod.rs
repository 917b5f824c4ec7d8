//! A small stand-in for LLM providers, for `sentinel dev` and tests: answers in the shapes that the official SDKs read,
//! echoes what it was sent, records it byte for byte, and misbehaves when asked to ([`Mode`]).

mod answer;
mod anthropic;
mod mode;
mod ollama;
mod openai;
mod others;
mod record;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use answer::{Answer, Response};
pub use mode::Mode;
pub use record::Recorded;
use record::Records;

/// The largest request body that is read; beyond it 413.
const MAX_BODY: usize = 128 << 20;

/// A running mock. Dropped, it closes its listener and its connections.
pub struct MockLlm {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Requests whose head has arrived, also those whose body never did.
    requests: AtomicUsize,
    connections: AtomicUsize,
    recording: AtomicBool,
    records: Mutex<Records>,
    /// Applies to every request that does not name a mode itself.
    mode: Mutex<Mode>,
}

impl MockLlm {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(TcpListener::bind(("127.0.0.1", 0)).await?)
    }

    /// # Errors
    /// When the listener has no address.
    pub fn start_on(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { recording: AtomicBool::new(true), ..Shared::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// `http://127.0.0.1:PORT`, for `upstreams.NAME.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have arrived, counted from their complete head on.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// The last requests that arrived whole, oldest first; how many are kept is bounded by number and by bytes.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.records.lock().all()
    }

    #[must_use]
    pub fn last(&self) -> Option<Recorded> {
        self.shared.records.lock().last()
    }

    /// The last body as it came, still encoded as it came.
    #[must_use]
    pub fn last_body(&self) -> Option<Bytes> {
        self.last().map(|recorded| recorded.body)
    }

    #[must_use]
    pub fn bodies(&self) -> Vec<Bytes> {
        self.recorded().into_iter().map(|recorded| recorded.body).collect()
    }

    #[must_use]
    pub fn last_headers(&self) -> Option<HeaderMap> {
        self.last().map(|recorded| recorded.headers)
    }

    /// Forgets what was recorded; counters stay.
    pub fn forget(&self) {
        self.shared.records.lock().clear();
    }

    /// For benches and `sentinel dev`, which keep nothing that was said.
    pub fn set_recording(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Release);
    }

    /// How requests are answered that do not say so themselves.
    pub fn behave(&self, mode: Mode) {
        *self.shared.mode.lock() = mode;
    }
}

impl Drop for MockLlm {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Owns the connections: aborted, it ends them too.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                // Out of file descriptors, as a rule: some may be free a little later.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::AcqRel);
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { respond(request, &shared).await }
    });
    // An error is a client that left, or one that was meant to be left.
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Makes hyper close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
struct Closed;

async fn respond(request: Request<Incoming>, shared: &Shared) -> Result<Response, Closed> {
    shared.requests.fetch_add(1, Ordering::AcqRel);
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(openai::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large").into_response());
        }
        Err(_) => return Err(Closed),
    };
    let request = Recorded { method: head.method, target: head.uri, headers: head.headers, body };
    let mut json = serde_json::from_slice(&request.decoded_body()).unwrap_or_default();
    let mode = Mode::of(&request.headers, &json).unwrap_or_else(|| shared.mode.lock().clone());
    mode.ask(&mut json);
    let answer = answer(&request, &json);
    if shared.recording.load(Ordering::Acquire) {
        shared.records.lock().push(request);
    }
    mode.apply(answer).await.ok_or(Closed)
}

/// What a provider would say.
fn answer(request: &Recorded, json: &serde_json::Value) -> Answer {
    let path = request.target.path();
    match (request.method.as_str(), path) {
        ("POST", "/v1/chat/completions") => openai::chat(json),
        // Azure's deployments.
        ("POST", _) if path.starts_with("/openai/") && path.ends_with("/chat/completions") => openai::chat(json),
        ("POST", "/v1/responses") => openai::responses(json),
        ("POST", "/v1/embeddings") => openai::embeddings(json),
        ("GET", "/v1/models") if request.headers.contains_key("anthropic-version") => anthropic::models(),
        ("GET", "/v1/models") => openai::models(),
        ("POST", "/v1/messages") => anthropic::messages(json),
        ("POST", "/v1/messages/count_tokens") => anthropic::count_tokens(json),
        ("POST", "/api/chat") => ollama::chat(json),
        ("POST", "/api/generate") => ollama::generate(json),
        ("POST", _) if path.ends_with(":generateContent") => others::gemini(json),
        ("POST", _) if path.ends_with(":streamGenerateContent") => others::gemini_stream(json),
        ("POST", _) if path.ends_with("/converse") => others::bedrock(json),
        ("POST", _) if path.ends_with("/converse-stream") => others::bedrock_stream(json),
        ("POST", _) if path.ends_with("/invoke") => anthropic::messages(json),
        ("POST", _) if path.ends_with("/invoke-with-response-stream") => others::bedrock_invoke_stream(json),
        _ => openai::error(StatusCode::NOT_FOUND, "the mock does not know this path"),
    }
}

#[cfg(test)]
mod tests;
