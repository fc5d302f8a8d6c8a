//! Signals that ask the command to stop, and reports of that to the service manager.

use std::fmt::Display;
use std::io;

use aqueduct::service::Supervisor;
use futures_util::FutureExt;
use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `SIGINT` (Ctrl-C), `SIGTERM` and `SIGHUP`, unless the last was ignored when the command was
/// started, as by nohup(1).
pub(crate) struct Signals {
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
    supervisor: Supervisor,
    /// `READY=1` was sent.
    is_ready: bool,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let hangup = SignalKind::hangup();
        // Handled, the signal leaves it to write(2) to fail with EFBIG, as on a full disk.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        Ok(Self {
            hangup: match is_ignored(hangup) {
                true => None,
                false => Some(signal(hangup)?),
            },
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            supervisor: Supervisor::from_env(),
            is_ready: false,
        })
    }

    /// Tells the service manager, if there is one, that the command has started its work.
    pub(crate) async fn ready(&mut self, work: impl Display) {
        self.is_ready = true;
        let state = format!("READY=1\nSTATUS={work}");
        self.supervisor.notify(&state).await;
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        if std::mem::take(&mut self.is_ready) {
            // Without waiting: this future may be dropped at any await point.
            let _ = self.supervisor.notify("STOPPING=1").now_or_never();
        }
    }
}

/// Whether this process ignores a signal, as `proc_pid_status(5)` says.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|it| it.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    mask.is_some_and(|it| it >> (signal.as_raw_value() - 1) & 1 == 1)
}
