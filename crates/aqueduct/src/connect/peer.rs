use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use nix::unistd::geteuid;

use crate::io::owner::is_outside;

/// Who is at the other end of a [`Connection`](super::Connection), as far as the mechanism tells.
///
/// It prints as a few words for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// The peer's network address.
    Address(SocketAddr),
    /// The user, group and process at the other end of a Unix socket, as the kernel saw them.
    Process(Credentials),
    /// A process that we started.
    Child {
        /// Its number; `None` if it was reaped already.
        pid: Option<u32>,
    },
    /// Whoever is at the other ends of standard input and output.
    Stdio,
    /// The mechanism does not tell.
    Unknown,
}

impl Peer {
    /// The user, group and process of the peer, where the kernel vouches for them: on Unix sockets.
    pub fn credentials(&self) -> Option<Credentials> {
        match self {
            Self::Process(credentials) => Some(*credentials),
            _ => None,
        }
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Process(Credentials { uid, pid, .. }) => {
                match pid {
                    Some(pid) => write!(f, "process {pid} of ")?,
                    None => f.write_str("a process of ")?,
                }
                match is_outside(*uid) {
                    true => f.write_str("a user outside this user namespace"),
                    false => write!(f, "user {uid}"),
                }
            }
            Self::Child { pid: Some(pid) } => write!(f, "child process {pid}"),
            Self::Child { pid: None } => f.write_str("a child process"),
            Self::Stdio => f.write_str("standard input and output"),
            Self::Unknown => f.write_str("an unknown peer"),
        }
    }
}

/// The peer of a Unix socket, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// Its effective user. A user that our user namespace does not know shows as 65534.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process, if our process namespace knows it. The number may be another process's by
    /// now: to do something to the peer use [`unix::peer_pidfd`](crate::unix::peer_pidfd).
    pub pid: Option<i32>,
}

impl Credentials {
    /// Whether the peer runs as the same effective user as this process.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address: Endpoint = format!("unix:{}/control", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let address: Endpoint = "unix:/run/app/control".parse()?;
    /// # "#;
    /// let mut listener = address.bind().await?;
    /// let client = address.connect().await?;
    /// let connection = listener.accept().await.ok_or("no client")??;
    /// assert!(connection.peer().credentials().is_some_and(|it| it.is_current_user()));
    /// # drop(client);
    /// # Ok(()) }
    /// ```
    pub fn is_current_user(&self) -> bool {
        self.uid == geteuid().as_raw() && !is_outside(self.uid)
    }
}
