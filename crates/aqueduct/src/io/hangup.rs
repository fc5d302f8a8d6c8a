//! Waits until both directions of a socket have ended.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::PollFlags;
use tokio::io::Interest;

use super::fd::poll_now;
use super::sys;

/// Waits until the peer has closed the socket or was killed, or each side has ended its direction
/// (`EPOLLHUP` and `EPOLLERR`, `epoll_ctl(2)`). Never ready if the descriptor cannot be registered.
/// Cancel safe.
pub(crate) async fn hung_up(socket: OwnedFd) {
    // An interest is required. That in reading would wake the task whenever something arrives.
    let Ok(socket) = sys::register(Arc::new(socket), Interest::WRITABLE) else {
        return std::future::pending().await;
    };
    loop {
        match poll_now(socket.as_fd(), PollFlags::empty()) {
            Ok(now) if now.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => return,
            Ok(_) => {}
            Err(_) => return std::future::pending().await,
        }
        match socket.writable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_test::{assert_pending, task};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn watch(socket: impl AsFd) -> impl Future<Output = ()> {
        hung_up(socket.as_fd().try_clone_to_owned().unwrap())
    }

    #[tokio::test]
    async fn a_unix_peer_is_gone_when_it_closes_not_when_it_ends_a_way() {
        let (ours, peer) = UnixStream::pair().unwrap();
        let mut watched = task::spawn(watch(&ours));
        assert_pending!(watched.poll());
        peer.shutdown(Shutdown::Write).unwrap();
        (&ours).write_all(b"it still reads").unwrap();
        tokio::task::yield_now().await;
        assert_pending!(watched.poll());
        drop(peer);
        timeout(DEADLINE, watched).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_watched_while_its_buffer_is_full() {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while (&ours).write(&[0; 4096]).is_ok() {}
        let mut watched = task::spawn(watch(&ours));
        assert_pending!(watched.poll());
        drop(peer);
        timeout(DEADLINE, watched).await.unwrap();
    }

    #[tokio::test]
    async fn two_ended_directions_are_a_hang_up() {
        let (ours, peer) = UnixStream::pair().unwrap();
        let mut watched = task::spawn(watch(&ours));
        ours.shutdown(Shutdown::Write).unwrap();
        assert_pending!(watched.poll());
        peer.shutdown(Shutdown::Write).unwrap();
        timeout(DEADLINE, watched).await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_tcp_peer_is_noticed_once_this_side_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut watched = task::spawn(watch(&ours));
        drop(peer);
        tokio::task::yield_now().await;
        assert_pending!(watched.poll());
        ours.shutdown(Shutdown::Write).unwrap();
        timeout(DEADLINE, watched).await.unwrap();
    }
}
