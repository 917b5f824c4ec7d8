//! AWS Signature Version 4.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::UpstreamConfig;
use crate::domain::Secret;

/// The service that all of Bedrock's hosts belong to.
const SERVICE: &str = "bedrock";

/// A key pair of AWS, and the region that it signs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKey {
    id: String,
    secret: Secret<String>,
    /// Of temporary credentials.
    session_token: Option<Secret<String>>,
    region: Arc<str>,
}

impl AwsKey {
    /// Whether a text is meant as a key pair: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` for temporary
    /// credentials. An API key of Bedrock has no colon.
    pub(super) fn is_meant(text: &str) -> bool {
        text.contains(':')
    }

    /// # Errors
    /// What is wrong, without a word of it.
    pub(super) fn of(upstream: &UpstreamConfig, text: &str) -> Result<Self, &'static str> {
        let mut parts = text.splitn(3, ':');
        let (id, secret) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let id_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let value_byte = |b: u8| b.is_ascii_graphic() && b != b':';
        let session_token = parts.next();
        let whole = |text: &str| !text.is_empty() && text.bytes().all(value_byte);
        if !(16..=128).contains(&id.len())
            || !id.bytes().all(id_byte)
            || !whole(secret)
            || session_token.is_some_and(|t| !whole(t))
        {
            return Err("must be an API key, or ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]");
        }
        let region = upstream.aws_region.as_deref().or_else(|| region_of(&upstream.url));
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned().into(),
            session_token: session_token.map(|token| token.to_owned().into()),
            region: region.ok_or("needs `aws_region`: the host of `url` does not tell it")?.into(),
        })
    }

    /// The fields that sign a request: of `headers` the host, the content type and Amazon's own are covered. `url` is as it
    /// is sent.
    ///
    /// # Errors
    /// What the signer says; never in practice.
    pub fn sign(
        &self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: &[u8],
        at: SystemTime,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let token = self.session_token.as_ref().map(|token| token.expose().clone());
        let identity = Credentials::new(&self.id, self.secret.expose(), token, None, "sentinel").into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(at)
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let covered = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str();
            let signed = matches!(name, "host" | "content-type") || name.starts_with("x-amz");
            Some((name, value.to_str().ok().filter(|_| signed)?))
        });
        let request = SignableRequest::new(method.as_str(), url, covered, SignableBody::Bytes(body));
        let signed = request.and_then(|request| sign(request, &params)).map_err(|error| error.to_string())?;
        let (fields, _) = signed.into_parts().0.into_parts();
        let field = |name: &'static str, value: &str| {
            let mut value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            Ok((HeaderName::from_static(name), value))
        };
        fields.iter().map(|header| field(header.name(), header.value())).collect()
    }
}

/// `bedrock-runtime.REGION.amazonaws.com`, also of the endpoints of a VPC.
fn region_of(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    let mut labels = host.split('.');
    labels.find(|label| label.starts_with("bedrock"))?;
    let region = labels.next()?;
    // Names of regions end in a number.
    region.ends_with(|c: char| c.is_ascii_digit()).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Dialect;

    #[test]
    fn a_key_pair_is_read_and_its_region_is_the_hosts_or_the_configured_one() {
        let of = |url: &str, region: Option<&str>, text: &str| {
            let mut upstream = UpstreamConfig::new(Dialect::Bedrock, url);
            upstream.aws_region = region.map(str::to_owned);
            AwsKey::of(&upstream, text).map(|key| (key.region.to_string(), key.session_token.is_some()))
        };
        let pair = "AKIDEXAMPLE123456:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let named = |region: &str, token: bool| Ok((region.to_owned(), token));
        assert_eq!(of("https://bedrock-runtime.eu-west-1.amazonaws.com", None, pair), named("eu-west-1", false));
        assert_eq!(
            of("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com:443/x", None, pair),
            named("us-gov-west-1", false)
        );
        assert_eq!(
            of("https://vpce-1.bedrock-runtime.eu-west-3.vpce.amazonaws.com", None, pair),
            named("eu-west-3", false)
        );
        assert_eq!(of("http://127.0.0.1:1", Some("eu-west-1"), &format!("{pair}:tok/en==")), named("eu-west-1", true));
        assert!(of("http://127.0.0.1:1", None, pair).is_err());
        for wrong in [
            "short:secret",
            "AKIDEXAMPLE123456:",
            "AKIDEXAMPLE123456:s:",
            "AKIDEXAMPLE12345\u{e9}:s",
            "AKIDEXAMPLE123456:a b",
        ] {
            assert!(of("https://bedrock-runtime.eu-west-1.amazonaws.com", None, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_what_botocore_makes_of_the_same_request() {
        let pair = "AKIDEXAMPLE123456789:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let host = "bedrock-runtime.eu-west-1.amazonaws.com";
        let upstream = UpstreamConfig::new(Dialect::Bedrock, format!("https://{host}"));
        let url = format!("https://{host}/model/anthropic.claude-v2%3A1/converse");
        let headers: HeaderMap = [
            ("host", host),
            ("content-type", "application/json"),
            ("x-amzn-bedrock-guardrailidentifier", "g1"),
            ("user-agent", "not covered"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_735_787_045);
        let signature = |text: &str| {
            let key = AwsKey::of(&upstream, text).unwrap();
            let fields = key.sign(&Method::POST, &url, &headers, br#"{"messages":[]}"#, at).unwrap();
            assert!(fields.iter().all(|(_, value)| value.is_sensitive()));
            let (_, value) = fields.iter().find(|(name, _)| name == "authorization").unwrap();
            value.to_str().unwrap().rsplit_once("Signature=").unwrap().1.to_owned()
        };
        assert_eq!(signature(pair), "535ee0d9d75e23027a6bfaab0318f4a4fb0ca74b08cf82280d7555793b11758b");
        assert_eq!(
            signature(&format!("{pair}:IQoJb3JpZ2luX2VjEXAMPLE//token==")),
            "18c003a842728b5995127a42db997790b36f345d7344687cae69d1f76ad241f2"
        );
    }
}
