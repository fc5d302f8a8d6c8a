//! The faults that the soak causes.

/// A kind of fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// `SIGKILL`.
    Kill,
    /// `SIGSTOP`, and `SIGCONT` after a moment.
    Stop,
    /// A client cuts its connection in full flow.
    Cut,
    /// The name of an open FIFO, socket or queue is removed.
    Unlink,
    /// `SIGHUP` to the command.
    HangUp,
    /// A sender is killed inside a line.
    Tear,
    /// A path is removed or replaced under a persistent receiver.
    Replace,
    /// A bit of a recording is flipped.
    Flip,
}

/// How often each fault has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults([u64; Fault::NAMES.len()]);

impl Fault {
    /// Names in the order of the variants.
    pub(crate) const NAMES: [&str; 8] = [
        "kills",
        "stops",
        "cuts",
        "unlinked",
        "sighup",
        "torn lines",
        "replaced",
        "flipped",
    ];
}

impl Faults {
    pub(crate) fn count(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] += times;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine += others;
        }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::NAMES.into_iter().zip(self.0)
    }
}
