//! [`Goal`]: one case beside another, and how they are to compare.

use aqueduct_measure::{Placement, Step, Work};

use super::Bound::{self, AtLeast, AtMost, Free};

/// One case beside another, in one step. `*` in a name stands for each of the mechanisms.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
    pub(super) mechanisms: &'static [&'static str],
    pub(super) work: Work,
    pub(super) sizes: &'static [usize],
    pub(super) placements: &'static [Placement],
    pub(super) bound: Bound,
    /// Why it is this and no more, if that was found out.
    pub(super) why: &'static str,
}

const PIPES: &[&str] = &["pipe", "fifo"];
const UNIX: &[&str] = &["unix"];
const TCP: &[&str] = &["tcp"];
pub(super) const BYTES: &[&str] = &["pipe", "fifo", "unix", "tcp"];
const QUEUE: &[&str] = &["mq"];
const K: usize = 1 << 10;
/// Where one-way work is held to a goal: free is what users have; on one processor is what repeats.
const BOTH: &[Placement] = &[Placement::Free, Placement::OneCpu];
const ONE_CPU: &[Placement] = &[Placement::OneCpu];
const FREE: &[Placement] = &[Placement::Free];

pub(super) const GOALS: &[Goal] = &[
    one_way(
        "aqueduct/*/feed",
        "raw/*/batched",
        UNIX,
        &[64],
        AtLeast(0.45),
    )
    .because("an owned frame costs a reference count at each end, which the loop by hand has not"),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed-64k",
        UNIX,
        &[64],
        AtLeast(1.3),
    )
    .because("both have large buffers, and the kernel's part is the same"),
    one_way(
        "aqueduct/*/borrowed",
        "raw/*/batched",
        UNIX,
        &[64],
        AtLeast(0.9),
    ),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        PIPES,
        &[64],
        AtLeast(1.6),
    ),
    one_way(
        "aqueduct/*/borrowed",
        "tokio/*/feed",
        PIPES,
        &[64],
        AtLeast(2.0),
    ),
    one_way("aqueduct/*/feed", "tokio/*/feed", TCP, &[64], AtLeast(1.5)),
    one_way("aqueduct/*/feed", "raw/*/batched", TCP, &[K], AtLeast(0.75))
        .because("the loop by hand is itself twice tokio-util, and has no owned frames"),
    one_way(
        "aqueduct/*/feed",
        "raw/*/batched",
        PIPES,
        &[K],
        AtLeast(0.75),
    )
    .because("of 0.55 us of both sides 0.49 are the kernel's, in steps of 8 KiB as by hand"),
    one_way("aqueduct/*/feed", "tokio/*/feed", UNIX, &[K], AtLeast(2.0)),
    one_way(
        "aqueduct/*/feed",
        "raw/*",
        PIPES,
        &[64 * K, K * K],
        AtLeast(0.8),
    )
    .because("blocking calls move no header, and the last bytes of a frame do not fit the pipe"),
    one_way(
        "aqueduct/*/feed",
        "raw/*",
        UNIX,
        &[64 * K, K * K],
        AtLeast(0.8),
    )
    .because("with a header of 4 bytes and epoll_wait(2) a loop in C has 0.76 to 0.88"),
    one_way(
        "aqueduct/*/asyncfd",
        "raw/*",
        QUEUE,
        &[64, K],
        AtLeast(0.95),
    ),
    one_way("aqueduct/*/pool", "raw/*", QUEUE, &[64, K], AtLeast(0.8))
        .because("its second thread makes the kernel count the users of each descriptor"),
    one_way(
        "aqueduct/*/asyncfd",
        "raw/*",
        QUEUE,
        &[64 * K],
        AtLeast(0.8),
    ),
    round_trip(
        "aqueduct/*/feed",
        "raw/*",
        &["pipe", "fifo", "unix"],
        ONE_CPU,
        1.2,
    ),
    round_trip("aqueduct/*/feed", "tokio/*/feed", TCP, ONE_CPU, 1.0),
    round_trip("aqueduct/*/feed", "raw/*", TCP, ONE_CPU, 1.5),
    round_trip("aqueduct/*/asyncfd", "raw/*", QUEUE, ONE_CPU, 1.8),
    round_trip("aqueduct/*/pool", "raw/*", QUEUE, ONE_CPU, 4.0),
    round_trip("aqueduct/*/asyncfd/latency", "raw/*", QUEUE, FREE, 0.1),
    round_trip(
        "aqueduct/*/feed/latency",
        "tokio/*/feed",
        &["pipe", "unix"],
        FREE,
        0.1,
    ),
    round_trip("aqueduct/*/feed/latency", "tokio/*/feed", TCP, FREE, 0.2)
        .because("a loop in C of non-blocking calls alone takes more than a tenth"),
    one_way(
        "aqueduct/*/send",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        Free("none: the system has each message when `send` returns"),
    ),
    one_way(
        "aqueduct/*/coalesced",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        AtLeast(0.5),
    ),
    one_way(
        "aqueduct/*/feed/mt",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        AtLeast(0.9),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/ipc-channel",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way("aqueduct/*/postcard", "peer/zmq", UNIX, &[64], AtLeast(3.0))
        .because("Postcard alone, without a transport, takes half of the time"),
    one_way(
        "aqueduct/*/postcard",
        "peer/zeromq",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/remoc",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/tarpc",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way("aqueduct/*/call", "peer/tarpc", UNIX, &[64], AtLeast(1.2)),
    round_trip("aqueduct/*/call", "peer/tarpc", UNIX, ONE_CPU, 1.0),
    one_way(
        "aqueduct/*/concurrent",
        "aqueduct/*/concurrent/mutex",
        UNIX,
        &[64],
        AtLeast(2.0),
    ),
    one_way(
        "aqueduct/*/concurrent",
        "aqueduct/*/concurrent/task",
        UNIX,
        &[64],
        Free("none: it needs no task, and the error of an item is its caller's"),
    ),
];

const fn one_way(
    ours: &'static str,
    theirs: &'static str,
    mechanisms: &'static [&'static str],
    sizes: &'static [usize],
    bound: Bound,
) -> Goal {
    Goal {
        ours,
        theirs,
        mechanisms,
        work: Work::OneWay,
        sizes,
        placements: BOTH,
        bound,
        why: "",
    }
}

const fn round_trip(
    ours: &'static str,
    theirs: &'static str,
    mechanisms: &'static [&'static str],
    placements: &'static [Placement],
    at_most: f64,
) -> Goal {
    Goal {
        ours,
        theirs,
        mechanisms,
        work: Work::RoundTrip,
        sizes: &[64],
        placements,
        bound: AtMost(at_most),
        why: "",
    }
}

impl Goal {
    const fn because(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    /// On one processor messages a second are what their processor time allows, and that does not
    /// depend on what else runs.
    pub(super) fn is_judged_by_cpu(&self, step: &Step) -> bool {
        self.work == Work::OneWay && step.placement == Placement::OneCpu
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        let of = move |size| {
            self.placements.iter().map(move |&placement| Step {
                work: self.work,
                size,
                placement,
            })
        };
        self.sizes.iter().flat_map(move |&size| of(size))
    }
}
