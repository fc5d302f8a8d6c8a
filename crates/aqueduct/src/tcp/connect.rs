//! [`ConnectOptions`]: a connect with a time limit, retries, and no connection to itself.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::listener::{StreamOptions, in_runtime, new_socket};
use super::{Address, Error, Keepalive};
use crate::io::backoff::{Backoff, Retry};

/// How long connecting may take in all, unless set.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the first retry. It doubles.
pub const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between retries.
pub const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How to connect a TCP stream.
///
/// # Examples
///
/// Waiting up to a minute for a server that is being started:
/// ```no_run
/// use std::time::Duration;
/// use aqueduct::tcp::ConnectOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aqueduct::tcp::Error> {
/// let stream = ConnectOptions::new()
///     .retry(true)
///     .timeout(Duration::from_secs(60))
///     .connect("localhost:8080")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    timeout: Option<Duration>,
    retry: bool,
    source: Option<SocketAddr>,
    stream: StreamOptions,
}

impl ConnectOptions {
    /// The defaults: [`DEFAULT_CONNECT_TIMEOUT`], one attempt, `TCP_NODELAY`, no keep-alive.
    pub fn new() -> Self {
        Self {
            timeout: Some(DEFAULT_CONNECT_TIMEOUT),
            retry: false,
            source: None,
            stream: StreamOptions::default(),
        }
    }

    /// Sets how long connecting may take in all, with name look-up and retries; with `None` as
    /// long as it takes, which for one attempt is what the kernel allows (some two minutes,
    /// `net.ipv4.tcp_syn_retries`).
    pub fn timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets whether to try again, until the time is over, when nobody listens (yet), the host is
    /// unknown or unreachable, or the connection is reset (off by default). Between attempts it
    /// pauses, [`FIRST_RETRY_PAUSE`] at first and at most [`LONGEST_RETRY_PAUSE`].
    pub fn retry(&mut self, retry: bool) -> &mut Self {
        self.retry = retry;
        self
    }

    /// Sets the own address to connect from, its port 0 for any.
    pub fn source(&mut self, source: impl Into<Option<SocketAddr>>) -> &mut Self {
        self.source = source.into();
        self
    }

    /// Sets `TCP_NODELAY` (on by default).
    pub fn nodelay(&mut self, nodelay: bool) -> &mut Self {
        self.stream.nodelay = nodelay;
        self
    }

    /// Sets keep-alive (off by default).
    pub fn keepalive(&mut self, keepalive: impl Into<Option<Keepalive>>) -> &mut Self {
        self.stream.keepalive = keepalive.into();
        self
    }

    /// Connects. A name with several addresses is tried in the resolver's order, each address
    /// with a fair share of the time that is left.
    ///
    /// A client that calls a local port on which nobody listens is now and then given that very
    /// port as its own and then connects to itself (RFC 9293, 3.5, simultaneous open). It would talk
    /// to its own echo and keep the server from binding. Such a connection is closed at once and
    /// counts as refused.
    ///
    /// # Errors
    ///
    /// [`Error::BadAddress`], [`Error::Lookup`], [`Error::Refused`], [`Error::Unreachable`],
    /// [`Error::TimedOut`], [`Error::ToItself`], [`Error::PermissionDenied`], [`Error::NotLocal`] for the
    /// source; [`Error::Io`] for the rest, outside a runtime too. Where a name has several
    /// addresses the error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that was begun is closed.
    pub async fn connect<A>(&self, address: A) -> Result<TcpStream, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address = address.try_into()?;
        in_runtime(&address)?;
        let mut retry = Retry::new(
            self.timeout,
            Backoff::new(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE),
        );
        let mut last = None;
        loop {
            let error = match self.attempt(&address, &retry).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            tracing::debug!(%address, %error, "not connected");
            if !self.retry || !error.may_pass() {
                return Err(error);
            }
            // "Timed out" says less than why the attempt before it failed.
            if !matches!(error, Error::TimedOut { source: None, .. }) || last.is_none() {
                last = Some(error);
            }
            if !retry.pause().await {
                return Err(Error::TimedOut {
                    address,
                    after: retry.elapsed(),
                    source: last.map(io::Error::from),
                });
            }
        }
    }

    /// Tries each address of the host once.
    async fn attempt(&self, address: &Address, retry: &Retry) -> Result<TcpStream, Error> {
        let timed_out = || Error::TimedOut {
            address: address.clone(),
            after: retry.elapsed(),
            source: None,
        };
        let found = retry.share(0, address.lookup()).await;
        let found = found.unwrap_or_else(|| Err(timed_out()))?;
        let mut result = Err(timed_out());
        for (i, at) in found.iter().enumerate() {
            let one = retry.share(found.len() - 1 - i, self.connect_at(address, *at, retry));
            result = one.await.unwrap_or_else(|| Err(timed_out()));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_at(
        &self,
        address: &Address,
        at: SocketAddr,
        retry: &Retry,
    ) -> Result<TcpStream, Error> {
        let failed = |e| Error::from_connect(address, retry.elapsed(), e);
        let socket = new_socket(at).map_err(failed)?;
        if let Some(source) = self.source {
            let from = Address::from(source);
            // Else a source that another connection just left would be in use for a minute.
            socket.set_reuseaddr(true).map_err(failed)?;
            socket
                .bind(source)
                .map_err(|e| Error::from_bind(&from, "bind", e))?;
        }
        let stream = socket.connect(at).await.map_err(failed)?;
        if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
            && local == peer
        {
            // Reset rather than closed: TIME_WAIT would keep the port from its server.
            let _ = stream.set_zero_linger();
            return Err(Error::ToItself {
                address: address.clone(),
                at: local,
            });
        }
        self.stream.apply(&stream).map_err(failed)?;
        tracing::debug!(%address, %at, "connected");
        Ok(stream)
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}
