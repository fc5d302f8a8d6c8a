//! [`Group`]: a program at work and all that it has started.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aqueduct::child::Child;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The programs that are waited for: a fact of this process, whichever service has started them.
static AT_WORK: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

fn at_work() -> MutexGuard<'static, BTreeSet<Pid>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process is a program at work.
pub(super) fn is_at_work(pid: Pid) -> bool {
    at_work().contains(&pid)
}

/// The process group of a program, killed with this unless the program has ended.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// That of a child which was put into a group of its own.
    pub(super) fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|it| i32::try_from(it).ok());
        let pid = pid.map(Pid::from_raw);
        at_work().extend(pid);
        Self(pid)
    }

    /// The number may be another's from now on.
    pub(super) fn has_ended(&mut self) {
        if let Some(pid) = self.0.take() {
            at_work().remove(&pid);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended.
            let _ = killpg(group, Signal::SIGKILL);
            at_work().remove(&group);
        }
    }
}
