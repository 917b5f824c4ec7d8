//! What no type can say: bounds, and settings that must fit together.

use super::{ByteSize, Config, HumanDuration, RetentionConfig, UpstreamConfig};
use crate::domain::Dialect;

/// Every fault, as (path of the key, what is wrong). Values that may carry a credential are not quoted.
pub(super) fn faults(config: &Config) -> Vec<(String, String)> {
    let mut faults = Faults(Vec::new());
    gateway(config, &mut faults);
    admin(config, &mut faults);
    database(config, &mut faults);
    auth(config, &mut faults);
    mail(config, &mut faults);
    upstreams(config, &mut faults);
    audit(config, &mut faults);
    otlp(config, &mut faults);
    if tracing_subscriber::EnvFilter::try_new(&config.log.level).is_err() {
        faults.push("log.level", "is not a level (error, warn, info, debug, trace) or a list of directives");
    }
    if config.log.access.as_deref().is_some_and(|path| path.as_os_str().is_empty()) {
        faults.push("log.access", "must be stdout or the path of a file");
    }
    faults.0
}

/// What is wrong with files that the configuration names, which not every command has to be able to read.
pub(super) fn file_faults(config: &Config) -> Vec<(String, String)> {
    let faults = config.gateway.tls.faults().into_iter();
    faults.map(|(key, fault)| (format!("gateway.tls.{key}"), fault)).collect()
}

struct Faults(Vec<(String, String)>);

impl Faults {
    fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    fn size(&mut self, path: &str, size: ByteSize, least: ByteSize, most: ByteSize) {
        if size < least || size > most {
            self.push(path, format!("must be between {least} and {most}"));
        }
    }

    fn number(&mut self, path: &str, number: u64, least: u64, most: u64) {
        if number < least || number > most {
            self.push(path, format!("must be between {least} and {most}"));
        }
    }

    fn durations<const N: usize>(&mut self, durations: [(&str, HumanDuration); N]) {
        for (path, duration) in durations {
            if duration.get().is_zero() {
                self.push(path, "must be longer than nothing");
            }
        }
    }

    fn listen(&mut self, path: &str, listen: &str) {
        let host = listen.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(host, _)| host);
        // Without brackets the last group of an IPv6 address would be taken for the port.
        let fits = host.is_some_and(|host| {
            !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
        });
        if !fits {
            self.push(path, format!("`{listen}` is not an address to listen on, such as 0.0.0.0:8080 or [::]:8080"));
        }
    }
}

const GIB: ByteSize = ByteSize::mib(1024);

fn gateway(config: &Config, faults: &mut Faults) {
    let gateway = &config.gateway;
    faults.listen("gateway.listen", &gateway.listen);
    let tls = &gateway.tls;
    for (named, other, key) in
        [(&tls.cert_file, &tls.key_file, "key_file"), (&tls.key_file, &tls.cert_file, "cert_file")]
    {
        if named.is_some() && other.is_none() {
            faults.push(format!("gateway.tls.{key}"), "is missing: TLS needs both cert_file and key_file");
        }
    }
    if tls.client_ca_file.is_some() && tls.cert_file.is_none() && tls.key_file.is_none() {
        faults.push("gateway.tls.client_ca_file", "has no effect without cert_file and key_file");
    }
    faults.number("gateway.threads", gateway.threads as u64, 0, 1024);
    faults.size("gateway.max_request_body", gateway.max_request_body, ByteSize::kib(1), GIB);
    faults.size("gateway.max_decoded_body", gateway.max_decoded_body, ByteSize::kib(1), GIB);
    if gateway.max_decoded_body < gateway.max_request_body {
        faults.push("gateway.max_decoded_body", "must not be smaller than gateway.max_request_body");
    }
    faults.number("gateway.max_decode_ratio", gateway.max_decode_ratio.into(), 1, 100_000);
    // The JSON reader goes one stack frame deeper per level.
    faults.number("gateway.max_json_depth", gateway.max_json_depth.into(), 4, 512);
    faults.size("gateway.max_answer", gateway.max_answer, ByteSize::kib(1), GIB);
    faults.number("gateway.max_headers", gateway.max_headers as u64, 16, 1024);
    faults.size("gateway.max_head", gateway.max_head, ByteSize::kib(1), ByteSize::mib(1));
    faults.size("gateway.max_target", gateway.max_target, ByteSize::bytes(128), gateway.max_head);
    faults.number("gateway.upstream_pool", gateway.upstream_pool as u64, 1, 65_536);
    if ![400, 403].contains(&gateway.block_status) {
        faults.push("gateway.block_status", "must be 400 or 403: SDKs resend after most others");
    }
    faults.durations([
        ("gateway.head_timeout", gateway.head_timeout),
        ("gateway.body_timeout", gateway.body_timeout),
        ("gateway.keepalive_timeout", gateway.keepalive_timeout),
        ("gateway.write_timeout", gateway.write_timeout),
    ]);
}

fn admin(config: &Config, faults: &mut Faults) {
    let admin = &config.admin;
    faults.listen("admin.listen", &admin.listen);
    for (index, origin) in admin.cors_origins.iter().enumerate() {
        let path = origin.splitn(4, '/').nth(3);
        if http_url(origin).is_err() || path.is_some() {
            faults.push(format!("admin.cors_origins[{index}]"), "must be http[s]://host[:port], without a path");
        }
    }
    if admin.listen == config.gateway.listen && !admin.listen.ends_with(":0") {
        faults.push("admin.listen", "must not be the address of gateway.listen");
    }
    if let Err(fault) = http_url(&admin.public_url) {
        faults.push("admin.public_url", fault);
    }
    faults.number("admin.threads", admin.threads as u64, 1, 1024);
    faults.size("admin.max_request_body", admin.max_request_body, ByteSize::kib(1), GIB);
    faults.durations([("admin.request_timeout", admin.request_timeout)]);
}

fn database(config: &Config, faults: &mut Faults) {
    let database = &config.database;
    let known = |url: &str| ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if !database.url.is_empty() && !known(&database.url) {
        faults.push("database.url", "must begin with sqlite:, postgres:// or postgresql://");
    }
    if database.migrate_url.as_deref().is_some_and(|url| !known(url)) {
        faults.push("database.migrate_url", "must begin with sqlite:, postgres:// or postgresql://");
    }
    faults.number("database.max_connections", database.max_connections.into(), 1, 10_000);
    faults.durations([("database.acquire_timeout", database.acquire_timeout)]);
}

fn auth(config: &Config, faults: &mut Faults) {
    let auth = &config.auth;
    // RFC 7518 section 3.2: a key for HS256 has at least the hash's 256 bits.
    if auth.jwt_secret.as_ref().is_some_and(|secret| secret.expose().len() < 32) {
        faults.push("auth.jwt_secret", "must have at least 32 bytes");
    }
    if auth.previous_secrets().any(|secret| secret.len() < 32) {
        faults.push("auth.jwt_previous_secrets", "must have at least 32 bytes each, one a line");
    }
    let encryption = &config.encryption;
    for (name, key) in [("key", &encryption.key), ("previous_key", &encryption.previous_key)] {
        if key.as_ref().is_some_and(|key| key.expose().len() < 32) {
            faults.push(format!("encryption.{name}"), "must have at least 32 bytes");
        }
    }
    // Argon2 itself wants 8 KiB per lane, and Sentinel uses one lane.
    faults.number("auth.argon2_memory_kib", auth.argon2_memory_kib.into(), 8, 4 << 20);
    faults.number("auth.argon2_passes", auth.argon2_passes.into(), 1, 100);
    faults.number("auth.argon2_parallel", auth.argon2_parallel as u64, 0, 1024);
    faults.number("auth.argon2_queue", auth.argon2_queue as u64, 1, 100_000);
    faults.number("auth.logins_per_minute", auth.logins_per_minute.into(), 1, 1000);
    faults.number("auth.lockout_failures", auth.lockout_failures.into(), 1, 1000);
    faults.number("auth.failures_per_address", auth.failures_per_address.into(), 0, 1_000_000);
    faults.durations([
        ("auth.access_token_ttl", auth.access_token_ttl),
        ("auth.refresh_token_ttl", auth.refresh_token_ttl),
        ("auth.lockout", auth.lockout),
    ]);
}

fn mail(config: &Config, faults: &mut Faults) {
    if !config.mail.from.contains('@') {
        faults.push("mail.from", "must be an address, such as Sentinel <sentinel@example.com>");
    }
    let smtp = |url: &str| ["smtp://", "smtps://"].iter().any(|scheme| url.starts_with(scheme));
    if config.mail.smtp_url.as_ref().is_some_and(|url| !smtp(url.expose())) {
        faults.push("mail.smtp_url", "must begin with smtp:// or smtps://");
    }
}

/// First path segments that already mean something; an upstream of that name could never be reached by its prefix.
const RESERVED: [&str; 6] = ["v1", "v1beta", "model", "api", "process", "health"];

fn upstreams(config: &Config, faults: &mut Faults) {
    for (name, upstream) in &config.upstreams {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            faults.push(format!("upstreams.{name}"), "names consist of a-z, 0-9, `-` and `_`: they begin paths");
        }
        if RESERVED.contains(&name.as_str()) {
            faults.push(format!("upstreams.{name}"), "this name already begins the gateway's own paths");
        }
        if let Err(fault) = http_url(&upstream.url) {
            faults.push(format!("upstreams.{name}.url"), fault);
        }
        for (key, duration) in [
            ("connect_timeout", upstream.connect_timeout),
            ("read_timeout", upstream.read_timeout),
            ("idle_timeout", upstream.idle_timeout),
        ] {
            faults.durations([(&format!("upstreams.{name}.{key}"), duration)]);
        }
        for (key, duration) in [
            ("total_timeout", upstream.total_timeout),
            ("eject_for", upstream.eject_for),
            ("health_interval", upstream.health_interval),
        ] {
            if let Some(duration) = duration {
                faults.durations([(&format!("upstreams.{name}.{key}"), duration)]);
            }
        }
    }
    for (name, upstream) in &config.upstreams {
        provider(name, upstream, faults);
    }
    for (index, route) in config.routes.iter().enumerate() {
        if !route.path.starts_with('/') {
            faults.push(format!("routes[{index}].path"), "must begin with `/`");
        }
        if !config.upstreams.contains_key(&route.upstream) {
            faults.push(format!("routes[{index}].upstream"), format!("there is no upstream `{}`", route.upstream));
        }
    }
}

/// What holds for some providers alone, and for TLS.
fn provider(name: &str, upstream: &UpstreamConfig, faults: &mut Faults) {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let mut fault = |key: &str, message: &str| faults.push(format!("upstreams.{name}.{key}"), message);
    for (key, value, dialect, needs) in [
        ("azure_api_version", &upstream.azure_api_version, Dialect::Openai, "needs the dialect openai"),
        ("aws_region", &upstream.aws_region, Dialect::Bedrock, "needs the dialect bedrock"),
    ] {
        let Some(value) = value else { continue };
        if !plain(value) {
            fault(key, "must consist of letters, digits and `-`");
        }
        if upstream.dialect != dialect {
            fault(key, needs);
        }
    }
    for (key, there, other) in [
        ("client_cert_file", &upstream.client_cert_file, &upstream.client_key_file),
        ("client_key_file", &upstream.client_key_file, &upstream.client_cert_file),
    ] {
        if there.is_none() && other.is_some() {
            fault(key, "is missing: a certificate and its key come together");
        }
    }
    let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if upstream.sni.as_ref().is_some_and(|sni| sni.is_empty() || !sni.bytes().all(host)) {
        fault("sni", "must be the name of a host");
    }
    if !upstream.url.starts_with("https://") {
        for (key, set) in [("client_cert_file", upstream.client_cert_file.is_some()), ("sni", upstream.sni.is_some())] {
            if set {
                fault(key, "needs a url that begins with https://");
            }
        }
    }
}

fn audit(config: &Config, faults: &mut Faults) {
    let audit = &config.audit;
    faults.size("audit.segment_size", audit.segment_size, ByteSize::kib(4), GIB);
    if audit.max_backlog < audit.segment_size {
        faults.push("audit.max_backlog", "must not be smaller than audit.segment_size");
    }
    faults.number("audit.batch", audit.batch as u64, 1, 10_000);
    faults.durations([
        ("audit.sync_interval", audit.sync_interval),
        ("audit.checkpoint_interval", audit.checkpoint_interval),
    ]);
    let RetentionConfig { free, starter, pro, enterprise } = audit.retention;
    for (tier, days) in [("free", free), ("starter", starter), ("pro", pro), ("enterprise", enterprise)] {
        if let Some(days) = days {
            faults.number(&format!("audit.retention.{tier}"), u64::from(days), 1, 36_500);
        }
    }
}

fn otlp(config: &Config, faults: &mut Faults) {
    let otlp = &config.otlp;
    if let Some(Err(fault)) = otlp.endpoint.as_deref().map(http_url) {
        faults.push("otlp.endpoint", fault);
    }
    let fits = |(name, value): (String, String)| {
        http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok()
    };
    let fields = otlp.headers.as_ref().map_or(0, |headers| headers.expose().split(',').count());
    if otlp.header_fields().filter_map(|field| fits(field).then_some(())).count() != fields {
        faults.push("otlp.headers", "must be header fields: name=value,name=value");
    }
    if !(0.0..=1.0).contains(&otlp.sample_ratio) {
        faults.push("otlp.sample_ratio", "must be between 0 and 1");
    }
}

/// `http://host…` or `https://host…` without a login, a query or a fragment.
fn http_url(url: &str) -> Result<(), &'static str> {
    const SHAPE: &str = "must be http://host[:port][/path] or https://host[:port][/path]";
    let uri: http::Uri = url.parse().map_err(|_| SHAPE)?;
    let authority = uri.authority().ok_or(SHAPE)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() || url.contains('#') {
        return Err(SHAPE);
    }
    if authority.as_str().contains('@') {
        return Err("must not hold a login");
    }
    if uri.query().is_some() {
        return Err("must not hold a query");
    }
    Ok(())
}
