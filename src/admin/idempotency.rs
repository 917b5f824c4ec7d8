//! `Idempotency-Key` on POST: a request that is sent again is answered as before and not done again.
//!
//! It holds for operations that want a session, per person, for 24 hours. Answers are kept encrypted, for some show a
//! secret once. Only answers that say "done" (2xx) are kept: after any other the key is free, because nothing was changed.
//! A node that dies while it works leaves the key in flight until it expires: whether the work was done, nobody knows.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Api;
use super::extract::{bearer, whole_body};
use super::problem::{Code, Problem};
use crate::authn::Sealer;
use crate::store::{Begun, IdempotentRequest, KeptAnswer, Store, StoreError, TenantScope};

/// The request header.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a key.
const LONGEST: usize = 255;
/// Headers of an answer that are kept.
const HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::ETAG];

#[derive(Serialize, Deserialize)]
struct Answer {
    headers: Vec<(String, String)>,
    body: String,
}

/// `key` is bound to the text: the answer to one request cannot be given for another.
fn seal(sealer: &Sealer, key: &str, answer: &Answer) -> Result<String, Problem> {
    let text = serde_json::to_vec(answer).map_err(Problem::internal)?;
    Ok(STANDARD.encode(sealer.seal(&context(key), &text).map_err(Problem::internal)?))
}

/// None when it was sealed under a secret that is gone.
fn open(sealer: &Sealer, key: &str, sealed: &str) -> Option<Answer> {
    let text = sealer.open(&context(key), &STANDARD.decode(sealed).ok()?).ok()?;
    serde_json::from_slice(text.expose()).ok()
}

fn context(key: &str) -> String {
    format!("idempotency_keys.answer:{key}")
}

/// The middleware.
pub async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    let key = match read_key(request.headers()) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    // Without a session the operation itself says what is missing, or takes no key.
    let Some(token) = bearer(request.headers()) else { return next.run(request).await };
    let Ok(session) = api.sessions.authenticate(token).await else { return next.run(request).await };

    let (parts, body) = request.into_parts();
    let body = match whole_body(&parts.headers, body, &api).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let claim = IdempotentRequest {
        key: hex(&[session.user.id.uuid().as_bytes(), key.as_bytes()]),
        user_id: session.user.id,
        path: parts.uri.path().strip_prefix("/api/v1").unwrap_or(parts.uri.path()).to_owned(),
        hash: Sha256::digest(&body).into(),
        expires_at: api.state.clock.now().plus(KEPT),
    };
    match begin(&api.state.store, session.scope, &claim).await {
        Ok(Begun::First) => {}
        Ok(Begun::Answered(answer)) => return replay(&api, &claim.key, answer),
        Ok(Begun::InFlight) => {
            let detail = "the first request with this key has not been answered; ask again later";
            return Problem::new(Code::IdempotencyInFlight, detail).into_response();
        }
        Ok(Begun::Different) => {
            let detail = "the key was used for another operation or body; make a new one for each request";
            return Problem::new(Code::IdempotencyMismatch, detail).into_response();
        }
        Err(error) => return Problem::from(error).into_response(),
    }
    // In a task of its own: a client that leaves must not stop what others may be told was done.
    let (store, scope, key) = (api.state.store.clone(), session.scope, claim.key.clone());
    let work = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        keep(&api, scope, claim.key, response).await
    });
    match work.await {
        Ok(response) => response,
        Err(_) => {
            finish(&store, scope, &key, None).await;
            Problem::internal("a handler panicked").into_response()
        }
    }
}

fn read_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    match (keys.next().and_then(|key| key.to_str().ok()), keys.next()) {
        (Some(key), None) if !key.trim().is_empty() && key.len() <= LONGEST => Ok(key.trim().to_owned()),
        _ => Err(Problem::new(Code::InvalidHeader, "`Idempotency-Key` takes one value of 1 to 255 visible characters")),
    }
}

fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn begin(store: &Store, scope: TenantScope, claim: &IdempotentRequest) -> Result<Begun, StoreError> {
    let mut tx = store.write(scope).await?;
    let begun = tx.idempotency_keys().begin(claim).await?;
    tx.commit().await?;
    Ok(begun)
}

fn replay(api: &Api, key: &str, kept: KeptAnswer) -> Response {
    let Some(answer) = open(&api.state.sealer, key, &kept.sealed) else {
        let detail =
            "the request was done, but its answer can no longer be read: the installation's secret has changed";
        return Problem::new(Code::Conflict, detail).into_response();
    };
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Keeps an answer that says "done"; frees the key after any other.
async fn keep(api: &Api, scope: TenantScope, key: String, response: Response) -> Response {
    let store = &api.state.store;
    if !response.status().is_success() {
        finish(store, scope, &key, None).await;
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_else(|_| Bytes::new());
    let named = |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
    let answer = Answer {
        headers: HEADERS.iter().filter_map(named).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    match seal(&api.state.sealer, &key, &answer) {
        Ok(sealed) => finish(store, scope, &key, Some(KeptAnswer { status: parts.status.as_u16(), sealed })).await,
        Err(_) => tracing::error!("an answer could not be sealed; its Idempotency-Key stays in flight"),
    }
    Response::from_parts(parts, Body::from(body))
}

async fn finish(store: &Store, scope: TenantScope, key: &str, answer: Option<KeptAnswer>) {
    let finished = async {
        let mut tx = store.write(scope).await?;
        match answer {
            Some(answer) => tx.idempotency_keys().keep(key, answer).await?,
            None => tx.idempotency_keys().release(key).await?,
        }
        tx.commit().await
    };
    if let Err(error) = finished.await {
        tracing::error!(%error, "an Idempotency-Key could not be finished and stays in flight");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    #[test]
    fn a_sealed_answer_opens_under_its_key_and_secret_only() {
        let sealer = |secret: &str| Sealer::new(&Secret::new(secret.to_owned()), std::iter::empty()).unwrap();
        let answer = Answer { headers: vec![("etag".into(), "\"1\"".into())], body: "{\"key\":\"snt_live_x\"}".into() };
        let sealed = seal(&sealer("one"), "a", &answer).unwrap();
        assert!(
            !sealed.contains("snt_live") && !STANDARD.decode(&sealed).unwrap().windows(8).any(|w| w == b"snt_live")
        );
        assert_eq!(open(&sealer("one"), "a", &sealed).unwrap().body, answer.body);
        assert!(open(&sealer("one"), "b", &sealed).is_none());
        assert!(open(&sealer("two"), "a", &sealed).is_none());
        assert!(open(&sealer("one"), "a", "AAAA").is_none());
    }

    #[test]
    fn a_key_is_one_visible_value() {
        let read = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (KEY, HeaderValue::from_static(value)));
            let mut map = HeaderMap::new();
            headers.for_each(|(name, value)| {
                map.append(name, value);
            });
            read_key(&map).map_err(|problem| problem.code())
        };
        assert_eq!(read(&["a-1"]), Ok("a-1".to_owned()));
        for refused in [&["a", "b"][..], &[""], &[" "]] {
            assert_eq!(read(refused), Err(Code::InvalidHeader), "{refused:?}");
        }
    }
}
