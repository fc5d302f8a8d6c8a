use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;

use nix::unistd::geteuid;

use crate::io::owner::is_outside;

/// The peer of a [`Connection`](super::Connection), as far as the mechanism knows it.
///
/// It prints as a few words for a log.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cat: Endpoint = "exec:cat".parse()?;
/// let peer = cat.connect().await?.peer().clone();
/// assert!(peer.to_string().starts_with("child process"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// The peer's network address.
    Address(SocketAddr),
    /// A peer that proved by a certificate who it is, over TLS.
    Certified {
        /// The peer's network address.
        address: SocketAddr,
        /// The subject of its certificate as text (RFC 4514), such as `CN=alice,O=Example`.
        subject: Arc<str>,
    },
    /// The user, group and process at the other end of a Unix socket, or that sent a datagram.
    Process(Credentials),
    /// A process that this process started.
    Child {
        /// Its process ID; `None` if it was already reaped.
        pid: Option<u32>,
    },
    /// The processes that a broker reaches under a subject.
    Subject(Arc<str>),
    /// The other ends of standard input and output.
    Stdio,
    /// The mechanism does not know the peer.
    Unknown,
}

impl Peer {
    /// Returns the peer's user, group and process, if the kernel knows them.
    ///
    /// It does on Unix sockets, where the peer cannot forge them.
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
            Self::Certified { address, subject } => write!(f, "{address} ({subject})"),
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
            Self::Subject(subject) => write!(f, "subject {subject}"),
            Self::Stdio => f.write_str("standard input and output"),
            Self::Unknown => f.write_str("an unknown peer"),
        }
    }
}

/// The peer of a Unix socket, as the kernel saw it when the connection was made or the datagram sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// The effective user ID. A user unknown to this user namespace shows as 65534.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// The process ID, if this PID namespace knows it.
    ///
    /// By now the number may belong to another process. To act on the peer, use
    /// [`unix::peer_pidfd`](crate::unix::peer_pidfd).
    pub pid: Option<i32>,
}

impl Credentials {
    /// Returns whether the peer runs as the same effective user as this process.
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
