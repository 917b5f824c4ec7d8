//! The way to the upstream: which header fields go along, whose credential, which connection, and when to try again.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorSource, ErrorType, Result};
use prometheus::{Histogram, IntCounter, IntGauge};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::authn::ApiKeySecret;
use crate::telemetry::Metrics;
use crate::upstream::{AwsKey, Credential, Upstream};

use super::context::Context;
use super::problem::Problem;
use super::{Gate, anchor, joined};

/// For writing one piece of a request; an upstream that stops reading would hold it for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests on one HTTP/2 connection to an upstream; pingora's own figure is one.
const H2_STREAMS: usize = 100;

/// What is made once of an upstream's configuration.
pub(super) struct Destination {
    pub host: HeaderValue,
    /// The operator's.
    pub credential: Option<Credential>,
    ca: Option<Arc<CaType>>,
    client_certificate: Option<Arc<CertKey>>,
    pub duration: Histogram,
    pub first_byte: Histogram,
    pub connect: Histogram,
    pub input_tokens: IntCounter,
    pub cached_tokens: IntCounter,
    pub output_tokens: IntCounter,
    pub in_flight: IntGauge,
}

impl Destination {
    /// # Errors
    /// What cannot be used, with the key of its setting.
    pub(super) fn of(upstream: &Upstream, metrics: &Metrics) -> std::result::Result<Self, String> {
        let name = &upstream.name;
        let host =
            HeaderValue::try_from(&upstream.authority).map_err(|_| format!("upstreams.{name}.url: no valid host"))?;
        let credential = match &upstream.config.api_key {
            None => None,
            Some(key) => Some(
                Credential::of(&upstream.config, key.expose())
                    .map_err(|fault| format!("upstreams.{name}.api_key: {fault}"))?,
            ),
        };
        let ca = match &upstream.config.ca_file {
            None => None,
            Some(file) => {
                Some(roots(file).map_err(|fault| format!("upstreams.{name}.ca_file: {}: {fault}", file.display()))?)
            }
        };
        let client_certificate =
            match (&upstream.config.client_cert_file, &upstream.config.client_key_file) {
                (Some(certificate), Some(key)) => Some(client_certificate(certificate, key).map_err(|fault| {
                    format!("upstreams.{name}.client_cert_file: {}: {fault}", certificate.display())
                })?),
                _ => None,
            };
        Ok(Self {
            host,
            credential,
            ca,
            client_certificate,
            duration: metrics.upstream_duration.with_label_values(&[name]),
            first_byte: metrics.upstream_ttfb.with_label_values(&[name]),
            input_tokens: metrics.tokens.with_label_values(&[name, "input"]),
            cached_tokens: metrics.tokens.with_label_values(&[name, "cached_input"]),
            output_tokens: metrics.tokens.with_label_values(&[name, "output"]),
            connect: metrics.upstream_connect.with_label_values(&[name]),
            in_flight: metrics.upstream_in_flight.with_label_values(&[name]),
        })
    }
}

/// The system's roots and those of `file`: pingora takes a peer's list instead of its own, not beside it.
fn roots(file: &std::path::Path) -> std::result::Result<Arc<CaType>, String> {
    let mut own = certificates(file)?;
    let mut usable = rustls::RootCertStore::empty();
    for certificate in &own {
        usable.add(certificate.clone()).map_err(|error| format!("a certificate cannot be used: {error}"))?;
    }
    own.extend(pingora::tls::load_native_certs().unwrap_or_default());
    Ok(own.into_iter().map(|certificate| WrappedX509::new(certificate.as_ref().to_vec(), parse_x509)).collect())
}

/// # Errors
/// Why the file has no certificate to offer.
fn certificates(file: &std::path::Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("not a PEM file with certificates: {error}"))?;
    if found.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(found) }
}

/// What the upstream is shown of Sentinel. Checked here: pingora would only notice at the first connection.
fn client_certificate(
    certificate: &std::path::Path,
    key: &std::path::Path,
) -> std::result::Result<Arc<CertKey>, String> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("its key cannot be read: {error}"))?;
    let der = key.secret_der().to_vec();
    CertifiedKey::from_der(chain.clone(), key, &rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| format!("it cannot be used with its key: {error}"))?;
    Ok(Arc::new(CertKey::new(chain.into_iter().map(|certificate| certificate.as_ref().to_vec()).collect(), der)))
}

/// Whether a client's header field stays behind.
fn stays_behind(name: &str, own_credential: bool, rewritten: bool) -> bool {
    match name {
        // RFC 9110, 7.6.1: fields of one connection; and what the gateway has met or decides itself.
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "expect"
        | "accept-encoding" => true,
        // Whoever stands behind a gateway does not learn who stands before it, nor take their word for it.
        "cookie" | "cookie2" | "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "true-client-ip"
        | "cf-connecting-ip" => true,
        "authorization"
        | "x-api-key"
        | "api-key"
        | "ocp-apim-subscription-key"
        | "x-goog-api-key"
        | "x-amz-security-token"
        | "x-amz-date"
        | "x-amz-content-sha256" => own_credential,
        "content-encoding" | "content-md5" | "content-digest" | "repr-digest" | "digest" => rewritten,
        // Some servers take an underscore for a dash.
        "content_length" | "transfer_encoding" | "content_type" | "content_encoding" => true,
        _ => name.starts_with("x-sentinel-") || name.starts_with("x-forwarded-"),
    }
}

/// Takes away what must not reach the upstream, and every value that carries a Sentinel key.
fn clean(head: &mut RequestHeader, own_credential: bool, rewritten: bool) -> Result<()> {
    let mut removed: Vec<HeaderName> = Vec::new();
    for (name, value) in &head.headers {
        let goes = stays_behind(name.as_str(), own_credential, rewritten) || ApiKeySecret::looks_like(value.as_bytes());
        if goes && removed.last() != Some(name) {
            removed.push(name.clone());
        }
    }
    for name in removed {
        let kept: Vec<HeaderValue> = if stays_behind(name.as_str(), own_credential, rewritten) {
            Vec::new()
        } else {
            let values = head.headers.get_all(&name).iter();
            values.filter(|value| !ApiKeySecret::looks_like(value.as_bytes())).cloned().collect()
        };
        head.remove_header(&name);
        for value in kept {
            head.append_header(name.clone(), value)?;
        }
    }
    Ok(())
}

impl Gate {
    /// # Errors
    /// That of the last attempt, when there is nowhere left to go.
    pub(super) async fn peer(&self, context: &mut Context) -> Result<Box<HttpPeer>> {
        self.next_address(context).await?;
        let (Some(route), Some(lease)) = (&context.route, &context.lease) else {
            return Err(Error::explain(ErrorType::HTTPStatus(500), "no route"));
        };
        let upstream = &route.upstream;
        // An empty name would switch verification off; an IP address is verified as one.
        let name = if upstream.tls { upstream.sni().to_owned() } else { String::new() };
        let mut peer = HttpPeer::new(lease.address, upstream.tls, name);
        let config = &upstream.config;
        peer.group_key = upstream.index as u64;
        let options = &mut peer.options;
        options.connection_timeout = Some(config.connect_timeout.get());
        options.total_connection_timeout = Some(config.connect_timeout.get() * 2);
        options.read_timeout = Some(config.read_timeout.get());
        options.write_timeout = Some(WRITE_TIMEOUT);
        options.idle_timeout = Some(config.idle_timeout.get());
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        options.max_h2_streams = H2_STREAMS;
        if upstream.tls {
            options.alpn = ALPN::H2H1;
            if let Some(destination) = self.destinations.get(upstream.index) {
                options.ca.clone_from(&destination.ca);
                peer.client_cert_key.clone_from(&destination.client_certificate);
            }
        } else {
            options.alpn = joined::protocol();
        }
        Ok(Box::new(peer))
    }

    /// # Errors
    /// Never in practice: what is inserted was checked, and what is signed is well formed.
    pub(super) fn upstream_head(&self, head: &mut RequestHeader, context: &Context) -> Result<()> {
        let Some(route) = &context.route else { return Ok(()) };
        let Some(destination) = self.destinations.get(route.upstream.index) else { return Ok(()) };
        let forwarding = &context.forwarding;
        // What the client brought is for the upstream that it asked for, not for one that takes over.
        let elsewhere = context.origin.as_ref().is_some_and(|origin| origin.index != route.upstream.index);
        let own_credential = context.credential.is_some() || elsewhere;
        clean(head, own_credential, forwarding.rewritten)?;
        head.insert_header(HOST, destination.host.clone())?;
        let length = forwarding.body.len();
        if length > 0 || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
            head.insert_header(CONTENT_LENGTH, length)?;
        } else {
            head.remove_header(&CONTENT_LENGTH);
        }
        if context.screened.valve.is_some() {
            head.insert_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
        }
        if let Some(Credential::Field(name, value)) = &context.credential {
            head.insert_header(name.clone(), value.clone())?;
        }
        if let Some(watched) = &context.watched {
            watched.send_on(head)?;
        }
        let (path, query) = super::framing::split_target(head.raw_path());
        let wanted = route.upstream.query_for(&forwarding.query, context.credential.as_ref());
        // The target of HTTP/2 also carries the authority that the client asked for.
        if head.uri.authority().is_some() || path != forwarding.path.as_bytes() || query != wanted.as_bytes() {
            let target =
                if wanted.is_empty() { forwarding.path.clone() } else { [&forwarding.path, "?", &*wanted].concat() };
            head.set_raw_path(target.as_bytes())?;
        }
        if let Some(Credential::Aws(key)) = &context.credential {
            self.sign(head, key, &route.upstream, &forwarding.body)?;
        }
        Ok(())
    }

    /// Signs the head as it stands, and the bytes that follow it.
    fn sign(&self, head: &mut RequestHeader, key: &AwsKey, upstream: &Upstream, body: &[u8]) -> Result<()> {
        // Amazon's own clients write the colon of a model's version so, and the signature is over what is written.
        let target = String::from_utf8_lossy(head.raw_path()).replace(':', "%3A");
        head.set_raw_path(target.as_bytes())?;
        let url = format!("https://{}{target}", upstream.authority);
        let now = self.state.clock.now().into();
        let fields = key
            .sign(&head.method, &url, &head.headers, body, now)
            .map_err(|error| Error::explain(ErrorType::InternalError, error))?;
        for (name, value) in fields {
            head.insert_header(name, value)?;
        }
        Ok(())
    }

    /// A pooled connection that has died is tried again: nothing of an answer was seen, and the body is still there.
    pub(super) fn try_again(
        &self,
        session: &Session,
        mut error: Box<Error>,
        context: &Context,
        reused: bool,
    ) -> Box<Error> {
        let dead = matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError);
        let unanswered = context.answering.status.is_none() && session.response_written().is_none();
        error.set_retry(reused && dead && unanswered && *error.esource() == ErrorSource::Upstream);
        error
    }

    /// The credential that goes to the upstream: the workspace's own, else the operator's; None leaves the client's, which
    /// is also what a workspace can ask for.
    ///
    /// # Errors
    /// 503 when it cannot be told what the workspace has.
    pub(super) async fn credential(
        &self,
        context: &Context,
        upstream: &Upstream,
    ) -> std::result::Result<Option<Credential>, Problem> {
        let Some(caller) = context.caller.as_deref() else { return Err(Problem::invalid_key()) };
        if caller.config.passes_credentials_through() {
            return Ok(None);
        }
        let unguarded = |error: &dyn std::fmt::Display| {
            tracing::error!(request.id = %context.id, %error, "no provider credential can be had");
            self.state.metrics.failclosed.with_label_values(&["credential"]).inc();
            Problem::unguarded()
        };
        let getting = self.state.credentials.get(caller, &upstream.name);
        let own = anchor::on_main(self.main.as_ref(), getting).await.map_err(|error| unguarded(&error))?;
        match own {
            Some(own) => Credential::of(&upstream.config, own.expose()).map(Some).map_err(|fault| unguarded(&fault)),
            None => Ok(self.destinations.get(upstream.index).and_then(|destination| destination.credential.clone())),
        }
    }
}

/// What the client, the metrics and the audit row are told of an error of pingora's.
pub(super) fn status_of(error: &Error) -> u16 {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => *status,
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => 504,
        (ErrorSource::Upstream, _) => 502,
        (
            ErrorSource::Downstream,
            ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::H2Error,
        ) => 499,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => 408,
        (ErrorSource::Downstream, _) => 400,
        _ => 500,
    }
}

/// For the metric of upstream errors.
pub(super) fn kind_of(error: &Error) -> &'static str {
    match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout
        | ErrorType::HTTPStatus(504) => "timeout",
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error => "reset",
        _ => "connect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/v1/messages", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn names(head: &RequestHeader) -> Vec<&str> {
        let mut names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_sentinel_key_never_leaves_wherever_it_stands() {
        let mut head = head(&[
            ("x-sentinel-key", "snt_live_1"),
            ("x-api-key", "snt_live_1"),
            ("authorization", "Bearer snt_test_1"),
            ("x-notes", "the key is snt_live_1"),
            ("accept", "snt_live_1"),
            ("accept", "application/json"),
        ]);
        clean(&mut head, false, false).unwrap();
        assert_eq!(names(&head), ["accept"]);
        assert_eq!(head.headers.get_all("accept").iter().count(), 1);
        assert_eq!(head.headers["accept"], "application/json");
    }

    #[test]
    fn fields_of_the_connection_and_of_the_way_stay_behind() {
        let mut head = head(&[
            ("connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("proxy-authorization", "x"),
            ("cookie", "a=1"),
            ("forwarded", "for=1"),
            ("x-forwarded-for", "1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "1"),
            ("x-sentinel-anything", "1"),
            ("transfer_encoding", "chunked"),
            ("anthropic-version", "2023-06-01"),
            ("content-encoding", "gzip"),
            ("content-type", "application/json"),
            ("traceparent", "00-1-2-01"),
            ("x-stainless-lang", "python"),
        ]);
        clean(&mut head, false, false).unwrap();
        assert_eq!(
            names(&head),
            ["anthropic-version", "content-encoding", "content-type", "traceparent", "x-stainless-lang"]
        );
    }

    #[test]
    fn a_clients_credential_goes_on_unless_the_operator_has_one() {
        let fields =
            [("authorization", "Bearer sk-1"), ("x-api-key", "sk-ant"), ("api-key", "az"), ("x-goog-api-key", "AI")];
        let mut passed = head(&fields);
        clean(&mut passed, false, false).unwrap();
        assert_eq!(names(&passed), ["api-key", "authorization", "x-api-key", "x-goog-api-key"]);
        let mut replaced = head(&fields);
        clean(&mut replaced, true, false).unwrap();
        assert!(names(&replaced).is_empty());
    }

    #[test]
    fn what_describes_the_old_bytes_goes_when_the_body_was_rewritten() {
        let mut head = head(&[("content-encoding", "gzip"), ("content-md5", "x"), ("digest", "y"), ("accept", "z")]);
        clean(&mut head, false, true).unwrap();
        assert_eq!(names(&head), ["accept"]);
    }

    #[test]
    fn errors_become_the_statuses_of_the_contract() {
        let error = |kind: ErrorType, source: fn(Box<Error>) -> Box<Error>| source(Error::new(kind));
        for (kind, status) in [
            (ErrorType::ConnectTimedout, 504),
            (ErrorType::ReadTimedout, 504),
            (ErrorType::ConnectRefused, 502),
            (ErrorType::TLSHandshakeFailure, 502),
            (ErrorType::ConnectionClosed, 502),
        ] {
            assert_eq!(status_of(&error(kind, Error::into_up)), status);
        }
        for (kind, status) in [
            (ErrorType::ConnectionClosed, 499),
            (ErrorType::WriteError, 499),
            (ErrorType::WriteTimedout, 499),
            (ErrorType::ReadTimedout, 408),
            (ErrorType::InvalidHTTPHeader, 400),
        ] {
            assert_eq!(status_of(&error(kind, Error::into_down)), status);
        }
        assert_eq!(status_of(&Error::new(ErrorType::InternalError)), 500);
        assert_eq!(status_of(&Error::new(ErrorType::HTTPStatus(503))), 503);
    }
}
