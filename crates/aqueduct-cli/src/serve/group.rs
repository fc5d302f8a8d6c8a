//! [`Group`]: a program at work and all that it has started.

use aqueduct::child::Child;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The process group of a program, killed with this unless the program has ended.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// That of a child which was put into a group of its own.
    pub(super) fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|it| i32::try_from(it).ok());
        Self(pid.map(Pid::from_raw))
    }

    /// The number may be another's from now on.
    pub(super) fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
