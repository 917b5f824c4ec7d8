//! What handlers take: an authorized person, strict JSON, strict queries, ids, the version in `If-Match`, the client.

mod authorized;
mod body;
mod query;
mod version;

use std::net::SocketAddr;
use std::str::FromStr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};

pub use authorized::*;
pub use body::{Input, Json, name_faults, nullable, whole_body};
pub use query::{Filtered, ListQuery, PageQuery, Query, read_kept};
pub use version::{IfMatch, MaybeIfMatch};

use super::Api;
use super::problem::Problem;
use super::trail::Attempt;
use crate::authn::ClientInfo;
use crate::domain::RequestId;
use crate::store::Origin;

/// The id in the path. What is no id names nothing: 404.
pub struct Path<T>(pub T);

impl<T: FromStr + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let axum::extract::Path(text) =
            axum::extract::Path::<String>::from_request_parts(parts, api).await.map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

/// Two ids in the path, in their order there.
pub struct Paths<A, B>(pub A, pub B);

impl<A: FromStr + Send, B: FromStr + Send> FromRequestParts<Api> for Paths<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, api).await;
        let axum::extract::Path((first, second)) = path.map_err(|_| Problem::not_found())?;
        let read = first.parse().ok().zip(second.parse().ok());
        read.map(|(first, second)| Self(first, second)).ok_or_else(Problem::not_found)
    }
}

/// Where the request comes from.
pub struct Client(pub ClientInfo);

/// Bytes of the user agent that are kept.
const USER_AGENT: usize = 200;

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(client(&parts.headers, &parts.extensions)))
    }
}

fn client(headers: &HeaderMap, extensions: &Extensions) -> ClientInfo {
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let address = extensions.get::<ConnectInfo<SocketAddr>>();
    ClientInfo {
        user_agent: user_agent.map(|agent| agent.chars().take(USER_AGENT).collect()),
        ip: address.map(|ConnectInfo(address)| address.ip().to_string()),
    }
}

/// Where an event came from: the client, and the request's id.
pub fn origin(headers: &HeaderMap, extensions: &Extensions) -> Origin {
    let ClientInfo { user_agent, ip } = client(headers, extensions);
    Origin { ip, user_agent, request_id: extensions.get::<RequestId>().map(RequestId::to_string) }
}

/// [`origin`] for handlers without an [`Authorized`] person, and what their refusal will be recorded by.
pub struct Stranger {
    pub origin: Origin,
    pub attempt: Attempt,
}

impl<S: Send + Sync> FromRequestParts<S> for Stranger {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let attempt = parts.extensions.get::<Attempt>().cloned().unwrap_or_default();
        Ok(Self { origin: origin(&parts.headers, &parts.extensions), attempt })
    }
}
