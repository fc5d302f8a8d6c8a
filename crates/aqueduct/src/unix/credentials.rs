//! The identity of the peer of a connected Unix socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use crate::connect::Credentials;

/// Returns the user, group and process of a connected Unix socket's peer.
///
/// The source is `SO_PEERCRED` (unix(7)). For the connecting side they are those of the process
/// that called `listen`; for a socket pair, those of the process that created it. They cannot be
/// forged, but they describe the moment of connecting: the peer may have passed its end to another
/// process since.
///
/// # Errors
///
/// The kernel's error for a descriptor that is not a Unix socket.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let peer = aqueduct::unix::peer_credentials(&ours)?;
/// assert_eq!(peer.pid, Some(std::process::id() as i32));
/// # Ok(())
/// # }
/// ```
pub fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    // The values of a socket without a peer: no process and the user -1.
    if peer.pid() == 0 && peer.uid() == u32::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(Credentials {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: (peer.pid() > 0).then(|| peer.pid()),
    })
}

/// Returns a file descriptor for the process of a connected Unix socket's peer.
///
/// The source is `SO_PEERPIDFD` (Linux 6.5; pidfd_open(2)). The descriptor names that process for
/// good: when the process is gone it names none, never another one with the same number. It is
/// readable once the process has exited. `None` if the kernel does not support this, or the process
/// has already exited.
///
/// # Errors
///
/// The kernel's error for a descriptor that is not a Unix socket. `EMFILE` if no file descriptor is
/// free.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
/// match aqueduct::unix::peer_pidfd(&ours)? {
///     Some(pidfd) => println!("{pidfd:?}"),
///     None => println!("this kernel has no SO_PEERPIDFD"),
/// }
/// # Ok(()) }
/// ```
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(fd) => Ok(Some(fd)),
        // Unknown to the kernel; gone (the word of an older and of a newer kernel); not known for
        // the socket.
        Err(Errno::ENOPROTOOPT | Errno::EINVAL | Errno::ESRCH | Errno::ENODATA) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
