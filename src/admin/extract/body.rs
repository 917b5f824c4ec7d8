//! JSON bodies, read strictly.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::Api;
use super::super::conform::{Contract, escaped};
use super::super::problem::{Code, Fault, Problem};

/// What is wrong with a text that cannot be stored.
pub(super) const NUL: &str = "must not contain the character U+0000";

/// A body that an operation takes.
pub trait Input: DeserializeOwned + utoipa::ToSchema {
    /// Pointers to parts that another compiler judges.
    const OPAQUE: &'static [&'static str] = &[];
    /// Whether a text may have the character U+0000. PostgreSQL cannot store it: what is stored must not.
    const TAKES_NUL: bool = false;

    /// Faults that a schema cannot tell.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// A JSON body that keeps its contract. Refused are: another media type (415), what is not JSON (400), and, all faults at
/// once (422), unknown fields, missing fields, wrong types and values out of bounds.
pub struct Json<T>(pub T);

impl<T: Input> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(Code::UnsupportedMediaType, "send the body as `application/json`"));
        }
        let (parts, body) = request.into_parts();
        let bytes = whole_body(&parts.headers, body, api).await?;
        decode(&bytes).map(Self)
    }
}

/// A whole body, up to the limit of this face.
///
/// # Errors
/// 413, 400.
pub async fn whole_body(headers: &HeaderMap, body: Body, api: &Api) -> Result<Vec<u8>, Problem> {
    let most = api.state.config.admin.max_request_body;
    read(headers, body, most.as_usize()).await.map_err(|error| match error {
        Unreadable::TooLarge => Problem::new(Code::RequestTooLarge, format!("the body is larger than {most}")),
        Unreadable::Cut => Problem::new(Code::MalformedJson, "the body ended early"),
    })
}

enum Unreadable {
    TooLarge,
    Cut,
}

/// How much of a body that is too large is read and thrown away: a client that is answered while it still writes sees its
/// connection break instead of the answer.
const PATIENCE: usize = 16 << 20;

async fn read(headers: &HeaderMap, mut body: Body, most: usize) -> Result<Vec<u8>, Unreadable> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let asks_first = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|length| length > most && (asks_first || length > most.saturating_add(PATIENCE))) {
        return Err(Unreadable::TooLarge);
    }
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unreadable::Cut)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= most {
            bytes.extend_from_slice(&data);
        } else if length > most.saturating_add(PATIENCE) {
            break;
        }
    }
    if length > most { Err(Unreadable::TooLarge) } else { Ok(bytes) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn decode<T: Input>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, format!("the body is not JSON: {error}")))?;
    let mut faults = Contract::of::<T>().faults(&value, T::OPAQUE);
    if !T::TAKES_NUL {
        find_nul(&value, "", &mut faults);
    }
    match serde_json::from_value::<T>(value) {
        Ok(input) => {
            faults.extend(input.faults());
            if faults.is_empty() { Ok(input) } else { Err(Problem::validation(faults)) }
        }
        Err(error) if faults.is_empty() => Err(Problem::validation(vec![Fault::at("", error.to_string())])),
        Err(_) => Err(Problem::validation(faults)),
    }
}

/// A fault for every text and every name of a member that has the character U+0000.
fn find_nul(value: &Value, at: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::String(text) if text.contains('\0') => faults.push(Fault::at(at, NUL)),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                find_nul(item, &format!("{at}/{i}"), faults);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if name.contains('\0') {
                    faults.push(Fault::at(at, NUL));
                }
                find_nul(member, &format!("{at}/{}", escaped(name)), faults);
            }
        }
        _ => {}
    }
}

/// Reads a field that may be missing (None), null (`Some(None)`) or a value.
pub fn nullable<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Faults of a name: blank, or with control characters.
pub fn name_faults(pointer: &str, name: &str) -> Vec<Fault> {
    if name.trim().is_empty() {
        vec![Fault::at(pointer, "must not be blank")]
    } else if name.chars().any(char::is_control) {
        vec![Fault::at(pointer, "must not contain control characters")]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, utoipa::ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[schema(min_length = 1)]
        name: String,
        #[serde(default, deserialize_with = "nullable")]
        #[schema(minimum = 1)]
        limit: Option<Option<u32>>,
    }

    impl Input for Sample {
        fn faults(&self) -> Vec<Fault> {
            name_faults("/name", &self.name)
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_no_further_than_needed() {
        let none = HeaderMap::new();
        let body = |length: usize| Body::from(vec![b' '; length]);
        assert_eq!(read(&none, body(100), 100).await.map_err(|_| ()).unwrap().len(), 100);
        assert!(matches!(read(&none, body(101), 100).await, Err(Unreadable::TooLarge)));
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
        let endless = Body::from_stream(endless);
        assert!(matches!(read(&none, endless, 100).await, Err(Unreadable::TooLarge)));
    }

    #[test]
    fn a_body_is_read_strictly() {
        let code = |body: &str| decode::<Sample>(body.as_bytes()).unwrap_err().code();
        assert_eq!(code("{\"name\": "), Code::MalformedJson);
        assert_eq!(code("\u{feff}{}"), Code::MalformedJson);
        for refused in ["[]", "{}", r#"{"name": ""}"#, r#"{"name": "a", "x": 1}"#, r#"{"name": "  "}"#] {
            assert_eq!(code(refused), Code::ValidationFailed, "{refused}");
        }
    }

    #[test]
    fn the_character_that_postgresql_cannot_store_is_refused_wherever_it_is() {
        let mut faults = Vec::new();
        let value = serde_json::json!({"a": ["x", "\0"], "b/c": {"d": "e\0f"}, "g\0": 1, "h": 2});
        find_nul(&value, "", &mut faults);
        let at: Vec<_> = faults.iter().filter_map(|fault| fault.pointer.as_deref()).collect();
        assert_eq!(at, ["/a/1", "/b~1c/d", ""]);
        assert_eq!(decode::<Sample>(br#"{"name": "a\u0000"}"#).unwrap_err().code(), Code::ValidationFailed);
    }

    #[test]
    fn missing_null_and_a_value_are_three_things() {
        let limit = |body: &str| decode::<Sample>(body.as_bytes()).unwrap().limit;
        assert_eq!(limit(r#"{"name": "a"}"#), None);
        assert_eq!(limit(r#"{"name": "a", "limit": null}"#), Some(None));
        assert_eq!(limit(r#"{"name": "a", "limit": 7}"#), Some(Some(7)));
    }
}
