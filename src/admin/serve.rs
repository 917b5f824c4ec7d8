//! Connections of the admin face: accepted, bounded in time, drained.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;
use tower::Service as _;

use super::AdminState;
use super::events::Live;
use crate::config::{AdminConfig, Config};

/// How long a client may take for the head of a request, and an idle connection may wait for the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long accepting rests when the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, then finishes what is under way, for at most the time that a request may take, and
/// closes streams.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(listener: std::net::TcpListener, state: AdminState, stop: Receiver<bool>) -> std::io::Result<()> {
    let patience = state.config.admin.request_timeout.get();
    let live = Live::new(&state, stop.clone());
    let config = Arc::clone(&state.config);
    serve_router(listener, super::router(state, Arc::clone(&live)), config, stop, patience).await?;
    if tokio::time::timeout(patience, live.closed()).await.is_err() {
        tracing::warn!("streams of events were cut: they took too long to close");
    }
    Ok(())
}

async fn serve_router(
    listener: std::net::TcpListener,
    router: Router,
    config: Arc<Config>,
    mut stop: Receiver<bool>,
    patience: Duration,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, router.clone(), Arc::clone(&config), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the admin face could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, drained).await.is_err() {
        tracing::warn!("requests to the admin face were cut: they took too long to finish");
    }
    Ok(())
}

/// A sender that is gone has stopped as well.
async fn stopped(stop: &mut Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: Arc<Config>,
    mut stop: Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let AdminConfig { trusted_proxies, forwarded_header, .. } = &config.admin;
        let values = request.headers().get_all(forwarded_header.name()).iter().map(HeaderValue::as_bytes);
        let client = forwarded_header.client(peer.ip(), trusted_proxies, values);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, peer.port())));
        let answer = router.clone().call(request.map(Body::new));
        async move { Ok::<Response<Body>, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    // A connection that breaks is the client's affair.
    tokio::select! {
        _ = served.as_mut() => return,
        () = stopped(&mut stop) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::sync::{Notify, watch};

    use super::*;

    #[tokio::test]
    async fn a_request_under_way_is_finished_and_no_other_is_accepted() {
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (here, proceed) = (arrived.clone(), go_on.clone());
        let slow = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
            here.notify_one();
            proceed.notified().await;
            peer.ip().to_string()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/slow", listener.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/slow", get(slow));
        let server = tokio::spawn(serve_router(listener, router, Arc::default(), stopping, Duration::from_secs(60)));

        let client = reqwest::Client::new();
        let request = tokio::spawn(client.get(&url).send());
        arrived.notified().await;
        stop.send(true).unwrap();
        while tokio::net::TcpStream::connect(url.split('/').nth(2).unwrap()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
        assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "127.0.0.1");
        server.await.unwrap().unwrap();
    }
}
