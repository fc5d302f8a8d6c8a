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

/// How long a state is offered to a service manager that does not read.
const LIMIT: Duration = Duration::from_secs(1);

/// Of what is logged.
const TARGET: &str = "aqueduct::supervisor";

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));

/// The service manager that started this process, by the protocol of `sd_notify(3)`.
///
/// [`serve()`](super::serve) uses it by itself: it says `READY=1` once it accepts connections,
/// `STOPPING=1` when the last service of the process shuts down, and `WATCHDOG=1` as often as the
/// manager asks. For other programs:
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
///
/// Where no manager has set `NOTIFY_SOCKET` all of this does nothing.
#[derive(Debug)]
pub struct Supervisor {
    name: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Reads the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
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

    /// Tells a state, such as `READY=1` or `STATUS=two clients`; several are separated by newlines.
    ///
    /// A manager that is not there, or does not take it within a second, is reported by a `tracing`
    /// warning of the target `aqueduct::supervisor`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the state untold.
    pub async fn notify(&self, state: &str) {
        let Some(name) = &self.name else {
            return;
        };
        match tell(name, state).await {
            Ok(()) => tracing::debug!(target: TARGET, state, "told the service manager"),
            Err(error) => {
                let socket = name.display();
                tracing::warn!(
                    target: TARGET,
                    "cannot tell {state:?} to the service manager at {socket} (NOTIFY_SOCKET): {error}"
                );
            }
        }
    }

    /// Says `WATCHDOG=1` twice in each interval that the manager has set, and never returns.
    ///
    /// Poll it in the task whose progress the manager is to watch: when that task hangs, the manager
    /// restarts the service.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn watchdog(&self) {
        let Some(interval) = self.watchdog else {
            return std::future::pending().await;
        };
        loop {
            self.notify("WATCHDOG=1").await;
            sleep(interval / 2).await;
        }
    }
}

async fn tell(name: &OsStr, state: &str) -> io::Result<()> {
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

/// How many services of this process accept connections.
static SERVICES: AtomicUsize = AtomicUsize::new(0);

/// One of them.
pub(super) struct Serving(());

impl Serving {
    pub(super) fn begin() -> Self {
        SERVICES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Returns whether it was the last one.
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
