//! [`BindOptions`]: from an address to a listening socket.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Socket, Type};

use super::address::{Address, Attempt};
use super::claim::Claim;
use super::diag::Diag;
use crate::connect::group::{OWNER_BITS, find_group};
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::mark::MARK;

/// The mode of a socket's file, unless set.
const DEFAULT_MODE: u32 = 0o600;

/// How many connections may wait to be accepted, unless set.
const DEFAULT_BACKLOG: u32 = 1024;

/// How often another server may take the path and leave it again before binding fails.
const ATTEMPTS: usize = 16;

/// Options for binding a Unix listener.
///
/// # Examples
///
/// A socket that the group may use too:
///
/// ```
/// use aqueduct::unix::BindOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("service.sock");
/// let listener = BindOptions::new().mode(0o660).bind(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BindOptions {
    mode: Option<u32>,
    /// The group of the socket's file: its name or number.
    group: Option<String>,
    backlog: u32,
    pub(super) max_message: Option<usize>,
}

impl BindOptions {
    /// Creates the default options.
    ///
    /// The mode is 0600, the backlog 1,024 connections, and the largest message 1 MiB.
    pub fn new() -> Self {
        Self {
            mode: None,
            group: None,
            backlog: DEFAULT_BACKLOG,
            max_message: None,
        }
    }

    /// Sets the mode of the socket's file, at most 0777.
    ///
    /// The umask does not apply. Users with write permission on the file may connect.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }

    /// Gives the socket's file to a group, by name or number, before any other process can connect.
    pub(crate) fn group(&mut self, group: &str) -> &mut Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Sets how many connections may wait to be accepted.
    ///
    /// The kernel's own limit is `net.core.somaxconn`. Beyond the limit further clients get
    /// `EAGAIN`, and [`ConnectOptions`](super::ConnectOptions) tries again.
    pub fn backlog(&mut self, backlog: u32) -> &mut Self {
        self.backlog = backlog;
        self
    }

    /// Sets the largest message of accepted [`seqpacket`](super::seqpacket) connections.
    ///
    /// At least 1. Streams ignore it.
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = Some(bytes);
        self
    }

    /// Binds a socket of that type and listens, unless it is for datagrams.
    pub(crate) fn open(
        &self,
        address: Address,
        kind: Type,
    ) -> Result<(OwnedFd, Option<Claim>, Attempt), OpenError> {
        let attempt = Attempt::new("bind", kind, address)?;
        attempt.in_runtime()?;
        let mode = self.mode.unwrap_or(DEFAULT_MODE);
        let bad_mode = |cause| attempt.error(OpenErrorKind::InvalidOption, cause);
        if mode > 0o777 {
            return Err(bad_mode(format!("a mode is at most 0777, not {mode:04o}")));
        }
        if attempt.path().is_none() && (self.mode.is_some() || self.group.is_some()) {
            return Err(bad_mode(
                "an abstract name has no mode and no group: every user can connect to it".into(),
            ));
        }
        let group = self.group.as_deref();
        let group = group.map(|it| find_group("bind", &attempt.object, it));
        let group = group.transpose()?;
        // Before it has its group only its owner may connect.
        let first_mode = match group {
            Some(_) => mode & OWNER_BITS,
            None => mode,
        };
        let failed = |e| attempt.failed(e);
        let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None).map_err(failed)?;
        // Declared after the socket and so dropped before it, see `Claim`.
        let mut claim = None;
        if let Some(path) = attempt.path() {
            // Before bind: the file appears with this mode, and never with a wider one.
            fchmod(socket.as_fd(), Mode::from_bits_truncate(first_mode | MARK))
                .map_err(|e| failed(e.into()))?;
            claim = Some(Claim::take(&attempt, path)?);
        }
        // Also before bind: a shortage must not leave a file that nobody can identify.
        let diag = match Diag::open() {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(failed(e));
            }
            diag => diag,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match (socket.bind(&attempt.address.kernel), &claim) {
                (Ok(()), _) => break,
                (Err(e), Some(claim))
                    if e.raw_os_error() == Some(libc::EADDRINUSE) && attempts < ATTEMPTS =>
                {
                    claim.clear(&attempt)?;
                }
                (Err(e), _) => return Err(failed(e)),
            }
        }
        if let Some(claim) = &mut claim {
            let inode = diag.and_then(|it| it.file_of(&socket));
            claim.made(&attempt, mode, group, inode)?;
        }
        if kind != Type::DGRAM {
            let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
            socket.listen(backlog).map_err(failed)?;
        }
        tracing::debug!(address = %attempt.object, "listening");
        Ok((socket.into(), claim, attempt))
    }
}

impl Default for BindOptions {
    fn default() -> Self {
        Self::new()
    }
}
