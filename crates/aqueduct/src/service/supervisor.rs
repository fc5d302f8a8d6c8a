//! [`Supervisor`]: the service manager that started this process.

use std::env::{self, VarError};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::io::backoff::{Backoff, Retry};
use crate::io::timer::sleep;

/// How long to wait for a service manager that does not read.
const LIMIT: Duration = Duration::from_secs(1);

/// The target of log events.
const TARGET: &str = "aqueduct::supervisor";

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));

/// The service manager that started this process, by the protocol of `sd_notify(3)`.
///
/// [`serve()`](super::serve) notifies the manager itself. Use this type in programs of another shape.
/// If no manager has set `NOTIFY_SOCKET`, its methods do nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::service::Supervisor;
///
/// # async fn work() {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let supervisor = Supervisor::from_env();
/// supervisor.notify("READY=1\nSTATUS=collecting").await;
/// tokio::select! {
///     () = work() => {}
///     () = supervisor.watchdog() => {}
/// }
/// supervisor.notify("STOPPING=1").await;
/// # }
/// ```
#[derive(Debug)]
pub struct Supervisor {
    name: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from the environment.
    ///
    /// The socket is an absolute path, or `@` and an abstract name. A `WATCHDOG_PID` other than this
    /// process turns the watchdog off.
    pub fn from_env() -> Self {
        let number = |name: &str| match env::var(name) {
            Ok(value) => value.parse::<u64>().ok(),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => Some(0),
        };
        let is_ours = number("WATCHDOG_PID").is_none_or(|it| it == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|it| is_ours && *it > 0);
        Self {
            name: env::var_os("NOTIFY_SOCKET"),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Sends a state, such as `READY=1` or `STATUS=two clients`, or several separated by newlines.
    ///
    /// A failure, or a manager that does not read for a second, is logged as a warning with the target
    /// `aqueduct::supervisor`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the state may not have been sent.
    pub async fn notify(&self, state: &str) {
        let Some(name) = &self.name else {
            return;
        };
        match send(name, state).await {
            Ok(()) => tracing::debug!(target: TARGET, state, "notified the service manager"),
            Err(error) => {
                let socket = name.display();
                tracing::warn!(
                    target: TARGET,
                    "cannot send {state:?} to the service manager at {socket} (NOTIFY_SOCKET): {error}"
                );
            }
        }
    }

    /// Sends `WATCHDOG=1` twice per watchdog interval. Never returns.
    ///
    /// Poll it in the task that the manager should watch. If that task hangs, the manager restarts the
    /// service.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn watchdog(&self) {
        let (Some(interval), Some(_)) = (self.watchdog, &self.name) else {
            return std::future::pending().await;
        };
        loop {
            self.notify("WATCHDOG=1").await;
            sleep(interval / 2).await;
        }
    }
}

async fn send(name: &OsStr, state: &str) -> io::Result<()> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some((b'/', _)) => SocketAddr::from_pathname(name)?,
        _ => {
            let expected = "it is neither an absolute path nor an abstract name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let mut retry = Retry::new(Some(LIMIT), BACKOFF);
    loop {
        match socket.send_to_addr(state.as_bytes(), &address) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

/// The number of services in this process that accept connections.
static SERVICES: AtomicUsize = AtomicUsize::new(0);

/// One of the services that accept connections.
pub(super) struct Serving(());

impl Serving {
    pub(super) fn begin() -> Self {
        SERVICES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Returns whether this was the last one.
    pub(super) fn end(self) -> bool {
        std::mem::forget(self);
        SERVICES.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVICES.fetch_sub(1, Ordering::Relaxed);
    }
}
