//! A process hands its listening sockets to the one that takes its place, so that no connection is refused in between.
//!
//! The sockets travel over a Unix socket in `data_dir`, which nobody else may open. The successor says when it serves; only
//! then does the predecessor drain. Until that it serves as if nobody had asked.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::sync::oneshot;

use super::Only;

/// How long the other side may take to say the next thing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a successor may take to start: it replays journals.
const START: Duration = Duration::from_secs(300);
const GATEWAY: u8 = b'g';
const ADMIN: u8 = b'a';
const SERVING: u8 = b's';

/// The listening sockets of both faces, as far as the process has them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub gateway: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

impl Listeners {
    pub(super) fn copies(&self) -> io::Result<Self> {
        let copy = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::try_clone).transpose();
        Ok(Self { gateway: copy(&self.gateway)?, admin: copy(&self.admin)? })
    }
}

/// A predecessor that waits for word from us.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// Of processes with the same faces; others may run on the same folder.
pub(super) fn socket(data_dir: &Path, only: Option<Only>) -> PathBuf {
    data_dir.join(match only {
        None => "handover.sock",
        Some(Only::Gateway) => "handover-gateway.sock",
        Some(Only::Admin) => "handover-admin.sock",
        Some(Only::Worker) => "handover-worker.sock",
    })
}

/// Asks the process that listens at `path` for its sockets.
///
/// # Errors
/// When there is none, or it says nothing that can be understood.
pub(super) fn ask(path: &Path) -> io::Result<(Listeners, Predecessor)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut names = [0; 2];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let names = names.get(..received.bytes).unwrap_or_default();
    if names.is_empty() || names.len() != sockets.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the running process hands nothing over"));
    }
    let mut listeners = Listeners::default();
    for (name, socket) in names.iter().zip(sockets) {
        match *name {
            GATEWAY => listeners.gateway = Some(socket.into()),
            ADMIN => listeners.admin = Some(socket.into()),
            _ => {}
        }
    }
    Ok((listeners, Predecessor(stream)))
}

impl Predecessor {
    /// We serve; it may go.
    ///
    /// # Errors
    /// When it is gone already.
    pub(super) fn release(mut self) -> io::Result<()> {
        self.0.write_all(&[SERVING])
    }
}

/// Where a successor asks, for as long as there are `listeners`. Told on the channel once one serves.
///
/// # Errors
/// When there can be no such socket.
pub(super) fn offer(path: &Path, listeners: Arc<Mutex<Listeners>>) -> io::Result<oneshot::Receiver<()>> {
    // A socket that a process before this one has left; one that is alive has just been taken over.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let door = UnixListener::bind(path)?;
    let (taken, told) = oneshot::channel();
    std::thread::Builder::new().name("handover".into()).spawn(move || {
        while let Ok((stream, _)) = door.accept() {
            let copies = listeners.lock().copies();
            match copies.and_then(|copies| hand_over(stream, &copies)) {
                Ok(()) => {
                    let _ = taken.send(());
                    return;
                }
                Err(error) => tracing::warn!(%error, "a successor asked for the sockets, but does not serve"),
            }
        }
    })?;
    Ok(told)
}

fn hand_over(mut stream: UnixStream, listeners: &Listeners) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(START))?;
    let both = [(GATEWAY, &listeners.gateway), (ADMIN, &listeners.admin)];
    let (names, sockets): (Vec<u8>, Vec<BorrowedFd<'_>>) =
        both.iter().filter_map(|(name, listener)| Some((*name, listener.as_ref()?.as_fd()))).unzip();
    if sockets.is_empty() {
        return Err(io::Error::other("there is nothing to hand over"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(&stream, &[IoSlice::new(&names)], &mut control, SendFlags::NOSIGNAL)?;
    let mut word = [0];
    stream.read_exact(&mut word)?;
    if word == [SERVING] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_successor_that_fails_changes_nothing_and_one_that_serves_has_the_same_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket(folder.path(), None);
        assert_eq!(ask(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = gateway.local_addr().unwrap();
        let mut told = offer(&path, Arc::new(Mutex::new(Listeners { gateway: Some(gateway), admin: None }))).unwrap();

        let (failed, predecessor) = ask(&path).unwrap();
        drop((failed, predecessor));
        let (listeners, predecessor) = ask(&path).unwrap();
        assert!(told.try_recv().is_err(), "nobody serves yet");
        assert!(listeners.admin.is_none());
        assert_eq!(listeners.gateway.unwrap().local_addr().unwrap(), address);
        predecessor.release().unwrap();
        told.await.unwrap();
    }
}
