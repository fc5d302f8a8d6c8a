//! [`ConnectOptions`]: a connect with a time limit, retries, and no connection to itself.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::address::Attempt;
use super::listener::{StreamOptions, new_socket};
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::backoff::{Backoff, Retry};

/// How long connecting may take in total, unless set.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Options for connecting a TCP stream.
///
/// # Examples
///
/// Wait up to a minute for a server that is being started:
///
/// ```
/// use std::time::Duration;
/// use aqueduct::tcp::ConnectOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = aqueduct::tcp::bind(":0").await?;
/// # let address = listener.local_addr()?;
/// # let _ = r#"
/// let address = "localhost:8080";
/// # "#;
/// let stream = ConnectOptions::new().wait(Duration::from_secs(60)).connect(address).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    limit: Option<Duration>,
    retry: bool,
    stream: StreamOptions,
}

impl ConnectOptions {
    /// Creates the default options: one attempt of at most 10 s, no keep-alive.
    pub fn new() -> Self {
        Self {
            limit: Some(DEFAULT_LIMIT),
            retry: false,
            stream: StreamOptions::default(),
        }
    }

    /// Sets how long to wait for the server in total, including the name look-up.
    ///
    /// It tries again while nothing listens, the host is unknown or unreachable, or the connection
    /// is reset. `None` waits without a limit. Zero, the default, tries once. Attempts are 10 ms
    /// apart at first and at most one second.
    pub fn wait(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        let limit = limit.into();
        self.retry = limit != Some(Duration::ZERO);
        self.limit = if self.retry {
            limit
        } else {
            Some(DEFAULT_LIMIT)
        };
        self
    }

    /// Sets keep-alive (off by default).
    ///
    /// A peer that is silent for that long is asked whether it is still there, and reading fails
    /// with `ETIMEDOUT` once it has been silent for twice as long. Without it a reader waits for
    /// ever for a peer whose machine or network died (tcp(7): `TCP_KEEPIDLE`). The kernel counts in
    /// whole seconds, at least one.
    pub fn keepalive(&mut self, silence: impl Into<Option<Duration>>) -> &mut Self {
        self.stream.keepalive = silence.into();
        self
    }

    /// Sets `TCP_NODELAY` (on by default).
    pub(super) fn nodelay(&mut self, nodelay: bool) -> &mut Self {
        self.stream.nodelay = nodelay;
        self
    }

    /// Connects.
    ///
    /// A name with several addresses is tried in the resolver's order, each address with a fair
    /// share of the time left.
    ///
    /// A client that connects to a local port on which nothing listens is sometimes given that very
    /// port as its own, and then connects to itself (RFC 9293, 3.5, simultaneous open). It would
    /// read its own requests and keep the server from binding. Such a connection is closed at once
    /// and counts as refused.
    ///
    /// # Errors
    ///
    /// - [`Refused`](OpenErrorKind::Refused) (`ECONNREFUSED`): nothing listens there.
    /// - [`NotFound`](OpenErrorKind::NotFound): the host is unknown.
    /// - [`TimedOut`](OpenErrorKind::TimedOut): there was no answer in time.
    /// - [`Other`](OpenErrorKind::Other) with `EHOSTUNREACH` or `ENETUNREACH`: there is no route.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`).
    /// - [`InvalidName`](OpenErrorKind::InvalidName), [`NoRuntime`](OpenErrorKind::NoRuntime).
    ///
    /// For a name with several addresses, the error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection in progress is closed.
    pub async fn connect(&self, address: impl Display) -> Result<TcpStream, OpenError> {
        let attempt = Attempt::parse("connect to", &address)?;
        // Boxed: otherwise a future that holds this one would grow by a kilobyte.
        Box::pin(self.connect_in_time(attempt)).await
    }

    async fn connect_in_time(&self, attempt: Attempt) -> Result<TcpStream, OpenError> {
        let mut retry = Retry::new(self.limit, BACKOFF);
        let mut last = None;
        loop {
            let error = match self.attempt(&attempt, &retry).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            tracing::debug!(%error, "not connected");
            if !self.retry || !may_pass(&error) {
                return Err(error);
            }
            // "Timed out" says less than why the attempt before it failed.
            if last.is_none() || !matches!(error.kind(), OpenErrorKind::TimedOut { .. }) {
                last = Some(error);
            }
            if !retry.pause().await {
                return Err(self.gave_up(&attempt, &retry, last));
            }
        }
    }

    /// The time is over; `last` is why the last attempt failed.
    fn gave_up(&self, attempt: &Attempt, retry: &Retry, last: Option<OpenError>) -> OpenError {
        let errno = match last {
            // It says where to look.
            Some(last) if matches!(last.kind(), OpenErrorKind::TimedOut { .. }) => return last,
            Some(last) => last.raw_os_error(),
            None => None,
        };
        let waited = self.limit.unwrap_or_else(|| retry.elapsed());
        let error = OpenError::timed_out(attempt.action, &attempt.object, "server", waited);
        match errno {
            Some(errno) => error.with_source(io::Error::from_raw_os_error(errno)),
            None => error,
        }
    }

    /// Tries each address of the host once.
    async fn attempt(&self, attempt: &Attempt, retry: &Retry) -> Result<TcpStream, OpenError> {
        let timed_out = || {
            let waited = self.limit.unwrap_or_else(|| retry.elapsed());
            let kind = OpenErrorKind::TimedOut { waited };
            let cause = format!("no answer within {waited:?}");
            attempt.error(kind, cause).with_cure(
                "find out whether the server is up, accepts (its backlog may be full), and no \
                 packet filter drops the request",
            )
        };
        let found = retry.share(0, attempt.lookup()).await;
        let found = found.unwrap_or_else(|| Err(timed_out()))?;
        let mut result = Err(timed_out());
        for (i, at) in found.iter().enumerate() {
            let one = retry.share(found.len() - 1 - i, self.connect_at(attempt, *at));
            result = one.await.unwrap_or_else(|| Err(timed_out()));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_at(&self, attempt: &Attempt, at: SocketAddr) -> Result<TcpStream, OpenError> {
        let failed = |e| attempt.failed(e);
        let socket = new_socket(at).map_err(failed)?;
        let stream = match socket.connect(at).await {
            // The system's own limit (`net.ipv4.tcp_syn_retries`).
            Err(e) if e.raw_os_error() == Some(libc::ETIMEDOUT) => {
                let waited = self.limit.unwrap_or_default();
                let kind = OpenErrorKind::TimedOut { waited };
                return Err(attempt.error(kind, e.to_string()).with_source(e));
            }
            connected => connected.map_err(failed)?,
        };
        refuse_itself(attempt, &stream)?;
        self.stream.apply(&stream).map_err(failed)?;
        tracing::debug!(address = %attempt.address, %at, "connected");
        Ok(stream)
    }
}

/// Refuses a connection of a socket to itself.
fn refuse_itself(attempt: &Attempt, stream: &TcpStream) -> Result<(), OpenError> {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) if local == peer => {}
        _ => return Ok(()),
    }
    // Reset rather than closed: TIME_WAIT would keep the port from its server.
    let _ = stream.set_zero_linger();
    let cause = "nothing listens there: the socket was connected to itself";
    let error = attempt.error(OpenErrorKind::Refused, cause);
    Err(error
        .with_cure("start the server, and give it a port outside net.ipv4.ip_local_port_range"))
}

/// Whether a later attempt may succeed although nothing is changed on this side.
fn may_pass(error: &OpenError) -> bool {
    match error.kind() {
        OpenErrorKind::NotFound | OpenErrorKind::Refused | OpenErrorKind::TimedOut { .. } => true,
        _ => matches!(
            error.raw_os_error(),
            Some(
                libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::EHOSTDOWN
                    | libc::ECONNRESET
                    | libc::ECONNABORTED
                    | libc::EADDRNOTAVAIL
                    | libc::EAGAIN
            )
        ),
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    // Only one of some thousand attempts meets itself by chance, so the port is chosen here.
    #[tokio::test]
    async fn a_connection_to_itself_is_refused_and_leaves_the_port_free() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a free port");
        let at = socket.local_addr().expect("bound");
        let stream = socket
            .connect(at)
            .await
            .expect("Linux connects it to itself");
        let attempt = Attempt::parse("connect to", &at).expect("an address");
        let error = refuse_itself(&attempt, &stream).expect_err("to itself");
        assert_eq!(error.kind(), &OpenErrorKind::Refused, "{error}");
        assert!(may_pass(&error));
        drop(stream);
        // Without SO_REUSEADDR any trace of it would be in the way.
        let mut limit = Retry::new(Some(DEFAULT_LIMIT), BACKOFF);
        while let Err(error) = TcpSocket::new_v4().expect("a socket").bind(at) {
            // A process that another test is just starting may have a duplicate.
            assert!(limit.pause().await, "{error}");
        }
    }
}
