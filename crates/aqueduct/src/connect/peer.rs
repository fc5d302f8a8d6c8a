use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use nix::unistd::geteuid;

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
            Self::Process(Credentials { uid, pid, .. }) => match pid {
                Some(pid) => write!(f, "process {pid} of {}", User::of(*uid)),
                None => write!(f, "a process of {}", User::of(*uid)),
            },
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
        self.uid == geteuid().as_raw() && !User::of(self.uid).is_unknown()
    }
}

/// A user, printed so that one from outside this user namespace does not look like `nobody`.
#[derive(Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    unknown: bool,
}

impl User {
    pub(crate) fn of(uid: u32) -> Self {
        Self {
            uid,
            unknown: uid == overflow_user() && !knows_all_users(),
        }
    }

    fn is_unknown(self) -> bool {
        self.unknown
    }
}

impl Display for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.unknown {
            true => f.write_str("a user that this user namespace does not know"),
            false => write!(f, "user {}", self.uid),
        }
    }
}

/// The number that stands for users from outside the user namespace (user_namespaces(7)).
fn overflow_user() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    text.trim().parse().unwrap_or(65_534)
}

/// Whether every user has a number here, as in the first user namespace.
fn knows_all_users() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else {
        return true;
    };
    let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    map.lines().filter_map(count).sum::<u64>() >= u64::from(u32::MAX)
}
