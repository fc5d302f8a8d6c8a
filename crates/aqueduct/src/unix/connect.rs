//! [`ConnectOptions`]: a connect that outwaits a full backlog, and a server that is not there yet.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

use super::bind::in_runtime;
use super::{Address, Error, claim, seqpacket};
use crate::io::backoff::{Backoff, Retry};

/// How long connecting may take in all, unless set.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the first retry. It doubles.
pub const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between retries.
pub const LONGEST_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How to connect to a Unix socket.
///
/// # Examples
///
/// Waiting for a server that is being started:
/// ```no_run
/// use std::time::Duration;
/// use aqueduct::unix::ConnectOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aqueduct::unix::Error> {
/// let stream = ConnectOptions::new()
///     .retry(true)
///     .timeout(Duration::from_secs(60))
///     .connect("/run/service.sock")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    timeout: Option<Duration>,
    retry: bool,
    max_message: usize,
}

impl ConnectOptions {
    /// The defaults: [`DEFAULT_CONNECT_TIMEOUT`], no retry where there is no server,
    /// [`seqpacket::DEFAULT_MAX_MESSAGE`].
    pub fn new() -> Self {
        Self {
            timeout: Some(DEFAULT_CONNECT_TIMEOUT),
            retry: false,
            max_message: seqpacket::DEFAULT_MAX_MESSAGE,
        }
    }

    /// Sets how long connecting may take in all, retries included; with `None` for ever.
    pub fn timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets whether to try again, until the time is over, when the path does not exist (yet) or
    /// nobody listens on it (off by default). A full backlog is retried in any case. Between
    /// attempts it pauses, [`FIRST_RETRY_PAUSE`] at first and at most [`LONGEST_RETRY_PAUSE`].
    pub fn retry(&mut self, retry: bool) -> &mut Self {
        self.retry = retry;
        self
    }

    /// Sets the largest message of a [`seqpacket`] connection, at least 1. Has no meaning for
    /// streams.
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = bytes;
        self
    }

    /// Connects a stream socket.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`], [`Error::Refused`], [`Error::NotASocket`], [`Error::WrongType`],
    /// [`Error::PermissionDenied`], [`Error::TimedOut`], [`Error::TooLong`],
    /// [`Error::BadAddress`]; [`Error::Io`] for the rest, outside a runtime too.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left open.
    pub async fn connect(&self, address: impl Into<Address>) -> Result<UnixStream, Error> {
        let address = address.into();
        let fd = self.open(&address, Type::STREAM).await?;
        UnixStream::from_std(StdStream::from(fd))
            .map_err(|e| Error::from_io(&address, "registering", e))
    }

    /// Connects a [`seqpacket`] socket; else as [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// See [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left open.
    pub async fn connect_seqpacket(
        &self,
        address: impl Into<Address>,
    ) -> Result<seqpacket::Socket, Error> {
        let address = address.into();
        let fd = self.open(&address, Type::SEQPACKET).await?;
        seqpacket::Socket::new(fd, self.max_message)
            .map_err(|e| Error::from_io(&address, "registering", e))
    }

    async fn open(&self, address: &Address, kind: Type) -> Result<OwnedFd, Error> {
        in_runtime(address)?;
        let kernel = address.to_kernel()?;
        let mut retry = Retry::new(
            self.timeout,
            Backoff::new(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE),
        );
        loop {
            let source = match attempt(&kernel, kind) {
                Ok(fd) => {
                    tracing::debug!(%address, "connected");
                    return Ok(fd);
                }
                Err(source) => source,
            };
            let again = match source.raw_os_error() {
                // A full backlog, and unlike TCP's there is nothing to wait for: connect(2) on a
                // non-blocking Unix socket fails at once and does not go on by itself.
                Some(libc::EAGAIN | libc::EINTR) => true,
                Some(libc::ENOENT) => self.retry,
                Some(libc::ECONNREFUSED) => {
                    check_is_socket(address)?;
                    self.retry
                }
                _ => false,
            };
            if !again {
                return Err(connect_error(address, kind, source));
            }
            if !retry.pause().await {
                return Err(Error::TimedOut {
                    address: address.clone(),
                    after: retry.elapsed(),
                    source,
                });
            }
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn attempt(kernel: &SockAddr, kind: Type) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
    socket.connect(kernel)?;
    Ok(socket.into())
}

/// The kernel refuses a connection to any other kind of file just as to a dead socket.
fn check_is_socket(address: &Address) -> Result<(), Error> {
    let Some(path) = address.as_path() else {
        return Ok(());
    };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(Error::NotASocket {
            path: path.into(),
            kind: claim::kind(&metadata),
        }),
        _ => Ok(()),
    }
}

fn connect_error(address: &Address, kind: Type, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPROTOTYPE) => Error::WrongType {
            address: address.clone(),
            wanted: if kind == Type::STREAM {
                "stream"
            } else {
                "seqpacket"
            },
            source,
        },
        _ => Error::from_io(address, "connecting", source),
    }
}
