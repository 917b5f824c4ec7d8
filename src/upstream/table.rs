//! The built-in routes: the paths that the SDKs of each provider call.

/// A row; the first that matches counts.
#[derive(Debug)]
pub(super) struct Row {
    /// Segments: a word stands for itself, `{}` for any one segment, `{}:verb` for one that ends so, `*` (last) for one
    /// or more of any.
    pub pattern: &'static str,
    /// As an `Allow` header says it.
    pub allow: &'static str,
    pub upstream: &'static str,
    /// Only for requests with an `anthropic-version` header: the path exists in both dialects.
    pub anthropic: bool,
}

const fn row(pattern: &'static str, allow: &'static str, upstream: &'static str) -> Row {
    Row { pattern, allow, upstream, anthropic: false }
}

const fn shared(pattern: &'static str, allow: &'static str) -> Row {
    Row { pattern, allow, upstream: "anthropic", anthropic: true }
}

/// `/v1/realtime` is missing on purpose: what is said over a WebSocket cannot be inspected yet.
pub(super) static ROWS: &[Row] = &[
    row("/v1/chat/completions", "POST", "openai"),
    row("/v1/messages", "POST", "anthropic"),
    row("/v1/responses", "POST", "openai"),
    row("/v1/embeddings", "POST", "openai"),
    row("/v1/completions", "POST", "openai"),
    row("/v1/moderations", "POST", "openai"),
    row("/v1/responses/{}", "GET, DELETE", "openai"),
    row("/v1/responses/{}/cancel", "POST", "openai"),
    row("/v1/responses/{}/input_items", "GET", "openai"),
    row("/v1/images/*", "POST", "openai"),
    row("/v1/audio/*", "POST", "openai"),
    row("/v1/messages/count_tokens", "POST", "anthropic"),
    row("/v1/messages/batches", "GET, POST", "anthropic"),
    row("/v1/messages/batches/{}", "GET, DELETE", "anthropic"),
    row("/v1/messages/batches/{}/cancel", "POST", "anthropic"),
    row("/v1/messages/batches/{}/results", "GET", "anthropic"),
    shared("/v1/models", "GET"),
    shared("/v1/models/{}", "GET"),
    // Anthropic's files have the same path; without this row a client's Anthropic credential would go to OpenAI.
    shared("/v1/files", "GET, POST"),
    shared("/v1/files/{}", "GET, DELETE"),
    shared("/v1/files/{}/content", "GET"),
    row("/v1/files", "GET, POST", "openai"),
    row("/v1/files/{}", "GET, DELETE", "openai"),
    row("/v1/files/{}/content", "GET", "openai"),
    row("/v1/batches", "GET, POST", "openai"),
    row("/v1/batches/{}", "GET", "openai"),
    row("/v1/batches/{}/cancel", "POST", "openai"),
    row("/v1/models", "GET", "openai"),
    row("/v1/models/{}:generateContent", "POST", "gemini"),
    row("/v1/models/{}:streamGenerateContent", "POST", "gemini"),
    row("/v1/models/{}:countTokens", "POST", "gemini"),
    row("/v1/models/{}:embedContent", "POST", "gemini"),
    row("/v1/models/{}:batchEmbedContents", "POST", "gemini"),
    // Names of models of compatible servers contain slashes.
    row("/v1/models/*", "GET", "openai"),
    row("/v1beta/models", "GET", "gemini"),
    row("/v1beta/models/*", "GET, POST", "gemini"),
    row("/model/{}/converse", "POST", "bedrock"),
    row("/model/{}/converse-stream", "POST", "bedrock"),
    row("/model/{}/invoke", "POST", "bedrock"),
    row("/model/{}/invoke-with-response-stream", "POST", "bedrock"),
    row("/api/chat", "POST", "ollama"),
    row("/api/generate", "POST", "ollama"),
    row("/api/embed", "POST", "ollama"),
];

impl Row {
    /// `path` is strict ([`super::is_strict`]), so it has no empty segments.
    pub(super) fn matches(&self, path: &str, anthropic: bool) -> bool {
        if self.anthropic && !anthropic {
            return false;
        }
        let Some(fixed) = self.pattern.find(['{', '*']) else { return self.pattern == path };
        // Before the first wildcard nothing but equality counts: most rows end here.
        let (Some(pattern), Some(rest)) =
            (self.pattern.get(fixed..), self.pattern.get(..fixed).and_then(|f| path.strip_prefix(f)))
        else {
            return false;
        };
        let mut segments = rest.split('/');
        for wanted in pattern.split('/') {
            if wanted == "*" {
                return segments.next().is_some_and(|segment| !segment.is_empty());
            }
            let Some(segment) = segments.next() else { return false };
            let fits = match wanted.strip_prefix("{}") {
                Some(end) => segment.strip_suffix(end).is_some_and(|before| !before.is_empty()),
                None => segment == wanted,
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }
}
