//! Work of a gateway thread that belongs to the process's main runtime.

use std::future::Future;

use tokio::runtime::Handle;

/// Polls `future` here, but with `main` as the runtime that its sockets and timers register with.
///
/// A database connection lives in a pool that all threads share, and it is tied to the runtime that opened it. Opened by a
/// gateway thread it would die with that thread's runtime when the gateway drains, while the audit shipper still needs
/// it. Entering the main runtime around each poll costs some nanoseconds, moving the work there would cost two wake-ups.
pub(super) async fn on_main<F: Future>(main: Option<&Handle>, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let _entered = main.map(Handle::enter);
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_opened_by_a_gateway_thread_outlives_its_runtime() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let main = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = runtime();
        let socket = gateway.block_on(on_main(Some(main.handle()), tokio::net::TcpStream::connect(address))).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(gateway);
        std::io::Write::write_all(&mut peer, b"x").unwrap();
        main.block_on(socket.readable()).unwrap();
    }
}
