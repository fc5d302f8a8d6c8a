//! [`BindOptions`]: from an address to a listening socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Handle;

use super::claim::Claim;
use super::seqpacket;
use super::{Address, Error, Listener, directory};
use crate::io::mark::MARK;

/// The mode of a socket's file, unless set: only the own user may connect.
pub const DEFAULT_MODE: u32 = 0o600;

/// How many connections may wait to be accepted, unless set. The kernel's own limit is
/// `net.core.somaxconn`.
pub const DEFAULT_BACKLOG: u32 = 1024;

/// How often another server may take the path and leave it again before we give up.
const ATTEMPTS: usize = 16;

/// How to bind a Unix listener.
///
/// # Examples
///
/// A socket that the group may use too:
/// ```
/// use aqueduct::unix::BindOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("service.sock");
/// let listener = BindOptions::new().mode(0o660).strict(true).bind(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BindOptions {
    mode: Option<u32>,
    backlog: u32,
    strict: bool,
    replace_stale: bool,
    max_message: usize,
}

impl BindOptions {
    /// The defaults: [`DEFAULT_MODE`], [`DEFAULT_BACKLOG`], not strict, a dead server's socket is
    /// replaced, [`seqpacket::DEFAULT_MAX_MESSAGE`].
    pub fn new() -> Self {
        Self {
            mode: None,
            backlog: DEFAULT_BACKLOG,
            strict: false,
            replace_stale: true,
            max_message: seqpacket::DEFAULT_MAX_MESSAGE,
        }
    }

    /// Sets the mode of the socket's file, at most 0777. It is exact: the umask takes nothing away.
    /// Whoever may write to the file may connect.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }

    /// Sets how many connections may wait to be accepted. When that many wait, further clients
    /// get `EAGAIN`; [`ConnectOptions`](super::ConnectOptions) tries again then.
    pub fn backlog(&mut self, backlog: u32) -> &mut Self {
        self.backlog = backlog;
        self
    }

    /// Sets whether to refuse a directory in which others can replace the socket: one that belongs
    /// to another user than root and ourselves, or that others may write to and that is not sticky.
    /// Unless strict (the default) there is a warning through `tracing`, and a directory of the own
    /// group may be writable for it.
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.strict = strict;
        self
    }

    /// Sets whether a socket at the path whose server is dead is replaced (the default) or an error.
    pub fn replace_stale(&mut self, replace: bool) -> &mut Self {
        self.replace_stale = replace;
        self
    }

    /// Sets the largest message of accepted [`seqpacket`] connections, at least 1. Has no meaning
    /// for streams.
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = bytes;
        self
    }

    /// Binds a stream socket and listens.
    ///
    /// It makes some system calls on the file system and does not wait for anything else.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::NotASocket`], [`Error::TooLong`], [`Error::BadAddress`],
    /// [`Error::BadMode`], [`Error::Absent`] for the directory, [`Error::PermissionDenied`],
    /// [`Error::Lock`], [`Error::UnsafeDirectory`] when strict, [`Error::Stale`] when it may not be
    /// replaced; [`Error::Io`] for the rest, outside a runtime too.
    pub fn bind(&self, address: impl Into<Address>) -> Result<Listener, Error> {
        let address = address.into();
        let (fd, claim) = self.open(&address, Type::STREAM)?;
        Listener::new(fd, claim).map_err(|e| Error::from_io(&address, "registering", e))
    }

    /// Binds a [`seqpacket`] socket and listens; else as [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// See [`bind`](Self::bind).
    pub fn bind_seqpacket(
        &self,
        address: impl Into<Address>,
    ) -> Result<seqpacket::Listener, Error> {
        let address = address.into();
        let (fd, claim) = self.open(&address, Type::SEQPACKET)?;
        seqpacket::Listener::new(fd, claim, self.max_message)
            .map_err(|e| Error::from_io(&address, "registering", e))
    }

    fn open(&self, address: &Address, kind: Type) -> Result<(OwnedFd, Option<Claim>), Error> {
        in_runtime(address)?;
        let kernel = address.to_kernel()?;
        let mode = self.mode.unwrap_or(DEFAULT_MODE);
        let bad_mode = |reason| Error::BadMode {
            address: address.clone(),
            mode,
            reason,
        };
        if mode > 0o777 {
            return Err(bad_mode("a mode is at most 0777"));
        }
        if address.as_path().is_none() && self.mode.is_some() {
            return Err(bad_mode(
                "an abstract name has no mode, every user can connect to it",
            ));
        }
        let failed = |action| move |e| Error::from_io(address, action, e);
        let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None);
        let socket = socket.map_err(failed("socket"))?;
        // Declared after the socket and so dropped before it, see `Claim`.
        let mut claim = None;
        if let Some(path) = address.as_path() {
            directory::check(address, path, self.strict)?;
            // Before bind: the file appears with it, and never with a wider one.
            fchmod(socket.as_fd(), Mode::from_bits_truncate(mode | MARK))
                .map_err(|e| Error::from_io(address, "fchmod", e.into()))?;
            claim = Some(Claim::take(address, path)?);
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match (socket.bind(&kernel), &claim) {
                (Ok(()), _) => break,
                (Err(e), Some(claim))
                    if e.raw_os_error() == Some(libc::EADDRINUSE) && attempts < ATTEMPTS =>
                {
                    claim.clear(address, &kernel, self.replace_stale)?;
                }
                (Err(e), _) => return Err(failed("bind")(e)),
            }
        }
        if let Some(claim) = &mut claim {
            claim.made(address, mode)?;
        }
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog).map_err(failed("listen"))?;
        tracing::debug!(%address, "listening");
        Ok((socket.into(), claim))
    }
}

impl Default for BindOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// An error where Tokio would panic.
pub(super) fn in_runtime(address: &Address) -> Result<(), Error> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Io {
            address: address.clone(),
            action: "finding the Tokio runtime",
            source: io::Error::other(e),
        }),
    }
}
