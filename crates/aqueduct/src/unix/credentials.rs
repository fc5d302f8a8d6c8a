//! Who is at the other end of a connected Unix socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use crate::connect::Credentials;

/// The user, group and process at the other end of a connected Unix socket (unix(7):
/// `SO_PEERCRED`).
///
/// For the side that connected they are those of the process that called `listen`; for a socket
/// pair, those of the process that made it. They cannot be forged, but they are of that moment: the
/// peer may have handed its end to another process since.
///
/// # Errors
///
/// What the kernel says of a descriptor that is no Unix socket.
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
    // What a socket without a peer has: no process and the user -1.
    if peer.pid() == 0 && peer.uid() == u32::MAX {
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(Credentials {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: (peer.pid() > 0).then(|| peer.pid()),
    })
}

/// A descriptor for the process at the other end of a connected Unix socket (pidfd_open(2);
/// `SO_PEERPIDFD`, Linux 6.5).
///
/// It names that process for good: when the process is gone it names none, never another one with
/// the same number. It is readable once the process has ended. `None` where the kernel does not
/// offer this, or the process has ended already.
///
/// # Errors
///
/// What the kernel says of a descriptor that is no Unix socket; `EMFILE` when this process has no
/// free descriptor.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match getsockopt(&socket, sockopt::PeerPidfd) {
        Ok(fd) => Ok(Some(fd)),
        // Unknown to the kernel; gone (an older and a newer kernel's word); not known for the
        // socket.
        Err(Errno::ENOPROTOOPT | Errno::EINVAL | Errno::ESRCH | Errno::ENODATA) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
