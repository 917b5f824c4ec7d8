//! Whose address a request comes from where proxies stand before us.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A network, `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| format!("`{text}` is not a network such as 10.0.0.0/8 or an address"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The header field that proxies add the address to that they were called from. Only one is read: a proxy that keeps the
/// one passes the other as its client wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ForwardedHeader {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The client's address: the first from the right that is not a trusted proxy's. `values` are those of the field, in
    /// their order; `peer` is who the connection comes from.
    #[must_use]
    pub fn client<'v>(
        self,
        peer: IpAddr,
        trusted: &[Network],
        values: impl DoubleEndedIterator<Item = &'v [u8]>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.0.contains(&address));
        for hop in values.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
            if !is_trusted(client) {
                break;
            }
            // Whoever stands before a hop that cannot be read is not known; the hop's proxy is the last that is.
            let Some(before) = self.address(hop) else { break };
            client = before.to_canonical();
        }
        client
    }

    fn address(self, hop: &[u8]) -> Option<IpAddr> {
        let hop = std::str::from_utf8(hop).ok()?.trim();
        let node = match self {
            Self::XForwardedFor => hop,
            Self::Forwarded => hop.split(';').find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
            })?,
        };
        let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
        bare.parse().ok().or_else(|| node.parse().ok().map(|address: SocketAddr| address.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(field: ForwardedHeader, peer: &str, trusted: &[&str], values: &[&str]) -> String {
        let trusted: Vec<Network> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        field.client(peer.parse().unwrap(), &trusted, values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_trusted_proxys_is_the_client() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        for (peer, trusted, values, expected) in [
            ("203.0.113.9", &[][..], &["1.1.1.1"][..], "203.0.113.9"),
            ("203.0.113.9", &["10.0.0.0/8"], &["1.1.1.1"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.0/8"], &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6", "1.1.1.1,10.0.0.7"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.1"], &["1.1.1.1, 10.0.0.7"], "10.0.0.7"),
            ("10.0.0.1", &["10.0.0.0/8"], &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.0/8"], &["10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1", &["10.0.0.0/8"], &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["10.0.0.0/8"], &["1.1.1.1:4711"], "1.1.1.1"),
            ("::ffff:10.0.0.1", &["10.0.0.0/8"], &["::ffff:1.1.1.1"], "1.1.1.1"),
            ("fd00::1", &["fd00::/8"], &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["fd00::/8"], &["2001:db8::1"], "2001:db8::1"),
        ] {
            assert_eq!(client(XForwardedFor, peer, trusted, values), expected, "{peer} {trusted:?} {values:?}");
        }
        for (values, expected) in [
            (&["for=1.1.1.1;proto=https;by=10.0.0.1"][..], "1.1.1.1"),
            (&["for=6.6.6.6, For=\"[2001:db8::1]:4711\"; by=x, for=10.0.0.2"], "2001:db8::1"),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["1.1.1.1"], "10.0.0.1"),
        ] {
            assert_eq!(client(Forwarded, "10.0.0.1", &["10.0.0.0/8"], values), expected, "{values:?}");
        }
    }
}
