//! The url of an upstream.

/// The parts of `https://host[:port][/prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub tls: bool,
    /// A name in lower case, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or starting with a slash and not ending in one.
    pub prefix: String,
}

impl Url {
    /// As a `Host` header says it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// # Errors
/// What is wrong with it, without quoting it: an url can carry a credential.
pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("must start with `https://` or `http://`"),
    };
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return Err("must not carry a user or password; use `api_key`");
    }
    if rest.contains(['?', '#']) {
        return Err("must not have a query or a fragment");
    }
    let (host, port) = host_and_port(authority)?;
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && !super::is_strict(prefix.as_bytes()) {
        return Err("has a path that is not plain");
    }
    Ok(Url { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), prefix: prefix.to_owned() })
}

/// A name in lower case or an IP address without brackets, and the port where there is one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("has an IPv6 address without a closing bracket")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "has something in brackets that is no IPv6 address")?;
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or("has something between host and port")?)),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("needs brackets around an IPv6 address"),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(host_byte) {
        return Err("has no valid host");
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or("has no valid port")?)
        }
        Some(_) => return Err("has no valid port"),
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_taken_apart_and_put_together_as_a_host_header() {
        let cases = [
            ("https://api.openai.com", (true, "api.openai.com", 443, "", "api.openai.com")),
            ("https://API.groq.com/openai/", (true, "api.groq.com", 443, "/openai", "api.groq.com")),
            ("http://127.0.0.1:11434", (false, "127.0.0.1", 11434, "", "127.0.0.1:11434")),
            ("http://[::1]:8000/a/b", (false, "::1", 8000, "/a/b", "[::1]:8000")),
            ("http://[::1]", (false, "::1", 80, "", "[::1]")),
            ("http://vllm:80", (false, "vllm", 80, "", "vllm")),
        ];
        for (text, expected) in cases {
            let url = parse(text).unwrap();
            let authority = url.authority();
            assert_eq!((url.tls, &*url.host, url.port, &*url.prefix, &*authority), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        for text in [
            "",
            "api.openai.com",
            "ftp://a",
            "https://",
            "https:///v1",
            "https://user:pw@a",
            "https://a?x=1",
            "https://a/#x",
            "https://a:0",
            "https://a:65536",
            "https://a:+80",
            "https://a:",
            "https://::1",
            "https://[::1",
            "https://[fe80]",
            "https://[::1]80",
            "https://a b",
            "https://ä.de",
            "https://a/../b",
            "https://a//b",
            "https://a/%2e%2e",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
