//! What applications are told when Sentinel itself answers: one body that the SDKs of OpenAI and Anthropic both read,
//! and the own shapes of Gemini, Bedrock and Ollama. Nothing here carries a cause; that is the log's business.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::domain::{Category, Dialect, RequestId};
use crate::protocol::stream::amazon_message;

/// An answer of Sentinel's own that is not a result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub status: u16,
    /// Stable; also in the audit row.
    pub code: &'static str,
    pub message: Cow<'static, str>,
    /// `Retry-After`, rounded up to whole seconds.
    pub retry_after: Option<Duration>,
    /// `Allow`, with 405.
    pub allow: Option<&'static str>,
    /// `x-should-retry: false`: SDKs obey it whatever the status.
    pub final_answer: bool,
    pub blocked: Option<Box<Blocked>>,
}

/// What a refusal by the policy tells beyond its status.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Blocked {
    blocked: bool,
    action: &'static str,
    direction: &'static str,
    pub risk_score: u8,
    /// Only with the workspace's `reveal`: an attacker would learn what to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<Category>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    pub pii_detected: bool,
}

impl Blocked {
    pub(super) fn input(risk_score: u8, pii_detected: bool, revealed: Option<(Vec<Category>, String)>) -> Self {
        let (categories, policy) = revealed.unzip();
        Self { blocked: true, action: "block", direction: "input", risk_score, categories, policy, pii_detected }
    }

    pub(super) fn output(risk_score: u8, pii_detected: bool, revealed: Option<(Vec<Category>, String)>) -> Self {
        Self { direction: "output", ..Self::input(risk_score, pii_detected, revealed) }
    }

    fn is_of_answer(&self) -> bool {
        self.direction == "output"
    }
}

#[derive(Serialize)]
struct OpenaiBody<'p> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: OpenaiError<'p>,
    request_id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentinel: Option<&'p Blocked>,
}

#[derive(Serialize)]
struct OpenaiError<'p> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
    param: Option<&'static str>,
    message: &'p str,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { status, code, message, retry_after: None, allow: None, final_answer: false, blocked: None }
    }

    pub(super) fn invalid_key() -> Self {
        Self::new(401, "invalid_api_key", "missing or invalid API key")
    }

    pub(super) fn missing_scope(scope: &str) -> Self {
        let message = format!("the API key lacks the scope `{scope}`");
        Self { final_answer: true, ..Self::new(403, "permission_error", message) }
    }

    /// The workspace's own configuration leaves the upstream or its dialect out.
    pub(super) fn upstream_not_allowed() -> Self {
        let message = "the workspace of the API key does not allow this upstream";
        Self { final_answer: true, ..Self::new(403, "permission_error", message) }
    }

    /// The workspace's own configuration leaves the model out. The code is the one that OpenAI has for it.
    pub(super) fn model_not_allowed(model: Option<&str>) -> Self {
        let message = match model {
            Some(model) => format!("the workspace of the API key does not allow the model `{model}`"),
            None => "the workspace of the API key does not allow this model".to_owned(),
        };
        Self { final_answer: true, ..Self::new(403, "model_not_found", message) }
    }

    /// The workspace restricts models, and this request names none where it can be read.
    pub(super) fn model_not_named() -> Self {
        let message = "the workspace of the API key restricts models, and the request names none that can be read";
        Self { final_answer: true, ..Self::new(403, "model_not_found", message) }
    }

    /// The deployments of Azure are named by models.
    pub(super) fn model_required() -> Self {
        Self::new(400, "model_required", "the request names no model, and its upstream needs one")
    }

    pub(super) fn unknown_path() -> Self {
        Self::new(404, "not_found", "the gateway has no such path")
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(405, "method_not_allowed", "the path does not allow this method") }
    }

    pub(super) fn rate_limited(retry_after: Duration) -> Self {
        let message = "the rate limit of the API key is used up";
        Self { retry_after: Some(retry_after), ..Self::new(429, "rate_limit_exceeded", message) }
    }

    /// The organization's requests of the month. No SDK should try again before the next one.
    pub(super) fn insufficient_quota() -> Self {
        let message = "the organization has used up its requests of this month";
        Self { final_answer: true, ..Self::new(429, "insufficient_quota", message) }
    }

    /// A policy that fails closed could not be enforced, or the request not recorded.
    pub(super) fn unguarded() -> Self {
        let message = "the request cannot be inspected and recorded at the moment";
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(503, "guard_unavailable", message) }
    }

    pub(super) fn too_large(limit: u64) -> Self {
        Self::new(413, "request_too_large", format!("the request body is larger than {limit} bytes"))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(408, "request_timeout", "the request body did not arrive in time")
    }

    pub(super) fn unreachable() -> Self {
        Self::new(502, "upstream_unreachable", "the upstream cannot be reached")
    }

    /// As many requests are under way at the upstream as the operator allows.
    pub(super) fn busy() -> Self {
        let message = "too many requests are under way at this upstream";
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(429, "rate_limit_exceeded", message) }
    }

    /// `sentence` is the policy's own, in place of the standard one.
    pub(super) fn blocked(status: u16, id: RequestId, blocked: Blocked, sentence: Option<&str>) -> Self {
        let why = match &blocked.categories {
            Some(categories) if !categories.is_empty() => {
                let names: Vec<&str> = categories.iter().map(|category| category.as_str()).collect();
                format!(" ({})", names.join(", "))
            }
            _ => String::new(),
        };
        let message = match sentence {
            Some(sentence) => format!("{sentence} Reference {id}"),
            None => {
                let what = if blocked.is_of_answer() { "Response" } else { "Request" };
                format!("{what} blocked by security policy{why}. Reference {id}")
            }
        };
        Self { final_answer: true, blocked: Some(Box::new(blocked)), ..Self::new(status, "content_filter", message) }
    }

    /// The upstream failed: `status` is 502 or 504.
    pub(super) fn upstream(status: u16) -> Self {
        match status {
            504 => Self::new(504, "upstream_timeout", "the upstream did not answer in time"),
            _ => Self::new(502, "upstream_failed", "the upstream failed"),
        }
    }

    /// For statuses that only pingora's errors bring.
    pub(super) fn other(status: u16) -> Self {
        match status {
            502 | 504 => Self::upstream(status),
            408 => Self::too_slow(),
            400..=499 => Self::new(status, "bad_request", "the request could not be read"),
            _ => Self::new(500, "internal_error", "the gateway failed"),
        }
    }

    /// The body in the shape of `dialect`.
    pub(super) fn body(&self, dialect: Dialect, id: RequestId) -> Bytes {
        let mut body = match dialect {
            Dialect::Openai | Dialect::Anthropic => {
                // The shape of most refusals: written without a tree, which takes a fifth of the time.
                let sentinel = self.blocked.as_deref();
                let body = OpenaiBody { kind: "error", error: self.openai_error(), request_id: id, sentinel };
                return serde_json::to_vec(&body).unwrap_or_default().into();
            }
            Dialect::Gemini => json!({
                "error": {
                    "code": self.status,
                    "message": self.message,
                    "status": self.google_status(),
                    "details": [{
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": self.code.to_ascii_uppercase(),
                        "domain": "sentinel",
                        "metadata": { "request_id": id },
                    }],
                },
            }),
            Dialect::Bedrock => json!({
                "__type": self.amazon_type(),
                "message": self.message,
                "code": self.code,
                "request_id": id,
            }),
            Dialect::Ollama => json!({ "error": self.message, "code": self.code, "request_id": id }),
        };
        if let (Some(blocked), Some(object)) = (&self.blocked, body.as_object_mut()) {
            object.insert("sentinel".into(), json!(blocked));
        }
        body.to_string().into()
    }

    /// Bedrock's SDKs read the kind of an error from the header `x-amzn-errortype`.
    pub(super) fn amazon_type(&self) -> &'static str {
        match self.status {
            401 | 403 => "AccessDeniedException",
            404 | 405 => "ResourceNotFoundException",
            408 | 504 => "ModelTimeoutException",
            // SDKs try again after the other.
            429 if self.final_answer => "ServiceQuotaExceededException",
            429 => "ThrottlingException",
            500 => "InternalServerException",
            502 | 503 => "ServiceUnavailableException",
            _ => "ValidationException",
        }
    }

    /// Of what `ConverseStream` and `InvokeModelWithResponseStream` both know: SDKs raise these with their message.
    fn amazon_exception(&self) -> &'static str {
        match self.status {
            _ if self.blocked.is_some() => "validationException",
            429 => "throttlingException",
            500 => "internalServerException",
            503 => "serviceUnavailableException",
            502 | 504 => "modelStreamErrorException",
            _ => "validationException",
        }
    }

    fn openai_error(&self) -> OpenaiError<'_> {
        let param = self.blocked.as_ref().filter(|blocked| !blocked.is_of_answer()).map(|_| "messages");
        OpenaiError { kind: self.kind(), code: self.code, param, message: &self.message }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            // A refusal by the policy is the request's fault, also where it is answered with 403.
            403 if self.blocked.is_none() => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    fn google_status(&self) -> &'static str {
        match self.status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            405 => "UNIMPLEMENTED",
            408 | 504 => "DEADLINE_EXCEEDED",
            429 => "RESOURCE_EXHAUSTED",
            500 => "INTERNAL",
            502 | 503 => "UNAVAILABLE",
            _ => "INVALID_ARGUMENT",
        }
    }

    /// The last bytes of a stream that began well: an error event, and the terminator where the dialect has one. None
    /// where no SDK would understand one, so that the stream is cut instead.
    pub(super) fn stream_end(&self, dialect: Dialect, shape: StreamShape, id: RequestId) -> Option<Bytes> {
        let error = self.openai_error();
        Some(Bytes::from(match (shape, dialect) {
            (StreamShape::Amazon, _) => {
                let kind = self.amazon_exception();
                let headers =
                    [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
                let body = json!({ "message": self.message, "code": self.code, "request_id": id }).to_string();
                return Some(amazon_message(&headers, body.as_bytes()).into());
            }
            (StreamShape::Lines, Dialect::Ollama) => {
                format!("{}\n", json!({ "error": self.message, "code": self.code, "request_id": id }))
            }
            (StreamShape::Lines, _) | (_, Dialect::Bedrock) => return None,
            (StreamShape::Responses, Dialect::Openai) => {
                // SDKs raise only when they find a nested `error`; the documented flat event alone is just yielded.
                let event = json!({
                    "type": "error",
                    "sequence_number": 0,
                    "code": self.code,
                    "message": self.message,
                    "param": null,
                    "error": error,
                });
                format!("event: error\ndata: {event}\n\n")
            }
            (_, Dialect::Openai) => format!("data: {}\n\ndata: [DONE]\n\n", json!({ "error": error })),
            (_, Dialect::Anthropic) => {
                let event = json!({ "type": "error", "error": error, "request_id": id });
                format!("event: error\ndata: {event}\n\n")
            }
            (_, Dialect::Gemini) => {
                let error = json!({ "code": self.status, "message": self.message, "status": self.google_status() });
                format!("data: {}\n\n", json!({ "error": error }))
            }
            (_, Dialect::Ollama) => format!("data: {}\n\n", json!({ "error": self.message })),
        }))
    }
}

/// How a streamed answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamShape {
    /// Server-sent events.
    Events,
    /// Server-sent events of OpenAI's Responses API.
    Responses,
    /// One JSON object a line.
    Lines,
    /// Messages of an AWS event stream.
    Amazon,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parsed(problem: &Problem, dialect: Dialect) -> Value {
        serde_json::from_slice(&problem.body(dialect, RequestId::new())).unwrap()
    }

    #[test]
    fn a_block_has_the_body_of_the_contract_and_keeps_its_reasons_to_itself() {
        let id = RequestId::new();
        let problem = Problem::blocked(400, id, Blocked::input(93, false, None), None);
        for dialect in [Dialect::Openai, Dialect::Anthropic] {
            let body: Value = serde_json::from_slice(&problem.body(dialect, id)).unwrap();
            assert_eq!(
                body,
                json!({
                    "type": "error",
                    "error": {
                        "type": "invalid_request_error",
                        "code": "content_filter",
                        "param": "messages",
                        "message": format!("Request blocked by security policy. Reference {id}"),
                    },
                    "request_id": id.to_string(),
                    "sentinel": {
                        "blocked": true, "action": "block", "direction": "input", "risk_score": 93, "pii_detected": false,
                    },
                })
            );
        }
        assert!(problem.final_answer);
    }

    #[test]
    fn a_workspace_that_reveals_tells_categories_and_policy() {
        let revealed = Some((vec![Category::PromptInjection], "default@7".to_owned()));
        let problem = Problem::blocked(403, RequestId::new(), Blocked::input(93, true, revealed), None);
        let body = parsed(&problem, Dialect::Openai);
        assert_eq!(body["sentinel"]["categories"], json!(["prompt_injection"]));
        assert_eq!(body["sentinel"]["policy"], "default@7");
        assert_eq!(body["error"]["type"], "invalid_request_error", "also with 403");
        assert!(body["error"]["message"].as_str().unwrap().contains("(prompt_injection)"), "{body}");
    }

    #[test]
    fn every_dialect_gets_its_own_shape() {
        let problem = Problem::rate_limited(Duration::from_secs(3));
        assert_eq!(parsed(&problem, Dialect::Openai)["error"]["code"], "rate_limit_exceeded");
        assert_eq!(parsed(&problem, Dialect::Anthropic)["error"]["type"], "rate_limit_error");
        let gemini = parsed(&problem, Dialect::Gemini);
        assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&json!(429), &json!("RESOURCE_EXHAUSTED")));
        assert_eq!(parsed(&problem, Dialect::Bedrock)["__type"], "ThrottlingException");
        assert_eq!(parsed(&Problem::insufficient_quota(), Dialect::Bedrock)["__type"], "ServiceQuotaExceededException");
        assert!(parsed(&problem, Dialect::Ollama)["error"].is_string());
    }

    #[test]
    fn a_broken_stream_ends_with_what_the_sdks_raise_on() {
        let id = RequestId::new();
        let end = |dialect, shape| {
            Problem::upstream(502)
                .stream_end(dialect, shape, id)
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        let chat = end(Dialect::Openai, StreamShape::Events).unwrap();
        assert!(chat.starts_with("data: {\"error\":{") && chat.ends_with("\n\ndata: [DONE]\n\n"), "{chat}");
        let responses = end(Dialect::Openai, StreamShape::Responses).unwrap();
        assert!(responses.starts_with("event: error\ndata: {") && responses.contains("\"error\":{"), "{responses}");
        let messages = end(Dialect::Anthropic, StreamShape::Events).unwrap();
        assert!(messages.starts_with("event: error\ndata: {") && messages.contains("\"type\":\"error\""), "{messages}");
        assert!(end(Dialect::Ollama, StreamShape::Lines).unwrap().ends_with("}\n"));
        assert_eq!(end(Dialect::Bedrock, StreamShape::Events), None);
        let amazon = Problem::upstream(502).stream_end(Dialect::Bedrock, StreamShape::Amazon, id).unwrap();
        let amazon = String::from_utf8_lossy(&amazon);
        for part in [":message-type", "exception", ":exception-type", "modelStreamErrorException", "{\"code\":"] {
            assert!(amazon.contains(part), "{part}: {amazon}");
        }
        for text in [chat, responses, messages] {
            let data = text.split("data: ").nth(1).unwrap().split('\n').next().unwrap();
            serde_json::from_str::<Value>(data).unwrap();
        }
    }
}
