//! The system's limits: how large queues may be, and how many.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t};

/// The most messages any queue may hold, whoever creates it: `HARD_MSGMAX` in the kernel's
/// `include/linux/ipc_namespace.h`.
pub(super) const HARD_MSG_MAX: u64 = 65_536;

/// The largest message of any queue: `HARD_MSGSIZEMAX`, at the same place.
pub(super) const HARD_MSGSIZE_MAX: u64 = 16 * 1024 * 1024;

/// The kernel's charge for a message besides its bytes: `struct msg_msg`.
const MESSAGE_COST: u64 = 48;

/// Its charge for each priority that could be in use: `struct posix_msg_tree_node`.
const PRIORITY_COST: u64 = 48;

/// How many priorities there are: `MQ_PRIO_MAX`.
const PRIORITIES: u64 = 32_768;

/// Returns the bytes that a queue of this size costs its owner.
///
/// They count against `RLIMIT_MSGQUEUE` for as long as the queue exists, full or empty. The formula
/// is that of [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html)
/// (`RLIMIT_MSGQUEUE`, since Linux 3.5) on a 64-bit kernel.
///
/// # Examples
///
/// ```
/// assert_eq!(aqueduct::mq::cost(10, 8192), 82_880);
/// ```
pub fn cost(capacity: usize, max_message: usize) -> u64 {
    let capacity = u64::try_from(capacity).unwrap_or(u64::MAX);
    let max_message = u64::try_from(max_message).unwrap_or(u64::MAX);
    let nodes = capacity.min(PRIORITIES).saturating_mul(PRIORITY_COST);
    let messages = capacity.saturating_mul(max_message.saturating_add(MESSAGE_COST));
    messages.saturating_add(nodes)
}

/// The current limits on queues, and how much of them is visibly in use.
///
/// # Examples
///
/// See [`limits`](crate::mq::limits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most messages a queue may hold: `fs.mqueue.msg_max`.
    pub msg_max: u64,
    /// How many it holds by default: `fs.mqueue.msg_default`.
    pub msg_default: u64,
    /// The largest message a queue may have: `fs.mqueue.msgsize_max`.
    pub msgsize_max: u64,
    /// Its default size: `fs.mqueue.msgsize_default`.
    pub msgsize_default: u64,
    /// The most queues in this IPC namespace, all users together: `fs.mqueue.queues_max`.
    pub queues_max: u64,
    /// Whether this thread is exempt from the three maxima by `CAP_SYS_RESOURCE`.
    ///
    /// See [`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html). The limit
    /// on bytes applies to every process.
    pub exempt: bool,
    /// The most bytes this user's queues may cost together: the soft `RLIMIT_MSGQUEUE`.
    ///
    /// This process may raise it up to the hard one. `None` is no limit.
    pub bytes_soft: Option<u64>,
    /// The hard `RLIMIT_MSGQUEUE`. `None` is no limit.
    pub bytes_hard: Option<u64>,
    /// The cost of a queue of the default size to its owner, in bytes.
    pub default_cost: u64,
    /// The queues that are visibly in use.
    pub usage: Usage,
}

/// Existing queues, as far as they can be seen.
///
/// The kernel counts the bytes of each user's queues and shows the count nowhere. This adds up the
/// queues that are found: those in the listing, if it is mounted on `/dev/mqueue`, and those that
/// some process has open (`/proc/*/fd`), which includes unlinked ones. It does not find queues of
/// another IPC namespace that no process has open, those held by processes that this one may not
/// inspect, and those in flight between processes. In a user namespace, such as a container without
/// root, its owner's queues outside of it count too. [`measure_room`](crate::mq::measure_room) is
/// exact.
///
/// # Examples
///
/// See [`limits`](crate::mq::limits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Whether the listing was available.
    ///
    /// If not, queues that no process has open are missing below.
    pub listed: bool,
    /// How many queues were found, of all users: they count against `queues_max`.
    ///
    /// Only those of the listing's IPC namespace, if it is mounted; otherwise of all namespaces,
    /// since this one's cannot be distinguished.
    pub queues: u64,
    /// How many queues of this user were found, in all namespaces.
    pub own_queues: u64,
    /// Their total cost, which counts against `RLIMIT_MSGQUEUE`.
    pub own_bytes: u64,
}

impl Limits {
    /// Reads the sysctls and resource limits, without those in use. Unreadable ones have the value
    /// that Linux starts with.
    pub(super) fn read_system() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_MSGQUEUE).unwrap_or((819_200, 819_200));
        let mut limits = Self {
            msg_max: sysctl("msg_max", 10),
            msg_default: sysctl("msg_default", 10),
            msgsize_max: sysctl("msgsize_max", 8192),
            msgsize_default: sysctl("msgsize_default", 8192),
            queues_max: sysctl("queues_max", 256),
            exempt: is_exempt(&own("status"), &own("uid_map")),
            bytes_soft: finite(soft),
            bytes_hard: finite(hard),
            default_cost: 0,
            usage: Usage::default(),
        };
        limits.default_cost = cost(limits.capacity_default(), limits.max_message_default());
        limits
    }

    /// Predicts how many more queues of this cost can be created.
    ///
    /// Exact if [`Usage`] is. [`measure_room`](crate::mq::measure_room) is always exact, at a
    /// price.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::mq;
    ///
    /// let limits = mq::limits();
    /// let room = limits.room_for(mq::cost(10, 8192));
    /// println!("{} more, then {:?}", room.queues, room.ends_with);
    /// ```
    pub fn room_for(&self, cost: u64) -> Room {
        let number = self.queues_max.saturating_sub(self.usage.queues);
        let number = (!self.exempt).then_some((number, RoomEnd::Queues));
        let bytes = self.bytes_soft.map(|limit| {
            let left = limit.saturating_sub(self.usage.own_bytes);
            (left / cost.max(1), RoomEnd::Bytes)
        });
        // If both leave the same, the kernel checks the number first, and so does this.
        let nearer = [number, bytes]
            .into_iter()
            .flatten()
            .min_by_key(|(left, _)| *left);
        Room {
            queues: nearer.map_or(u64::MAX, |(left, _)| left),
            ends_with: nearer.map(|(_, end)| end),
        }
    }

    /// The largest capacity and the largest message a queue may have.
    pub(super) fn largest(&self) -> (u64, u64) {
        if self.exempt {
            (HARD_MSG_MAX, HARD_MSGSIZE_MAX)
        } else {
            (self.msg_max, self.msgsize_max)
        }
    }

    /// The kernel's default capacity, which is never above the maximum.
    pub(super) fn capacity_default(&self) -> usize {
        usize::try_from(self.msg_default.min(self.msg_max)).unwrap_or(usize::MAX)
    }

    pub(super) fn max_message_default(&self) -> usize {
        usize::try_from(self.msgsize_default.min(self.msgsize_max)).unwrap_or(usize::MAX)
    }
}

/// Room for more queues of a size.
///
/// [`Limits::room_for`] predicts it, [`measure_room`](crate::mq::measure_room) measures it.
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// let room = mq::limits().room_for(mq::cost(10, 8192));
/// if room.queues == 0 {
///     println!("no more queues: {:?}", room.ends_with);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// How many more can be created.
    pub queues: u64,
    /// Which limit the next one meets.
    ///
    /// `None` is no limit, and `queues` is `u64::MAX`; if measured, 4,096 were created without
    /// meeting one.
    pub ends_with: Option<RoomEnd>,
}

/// The limit that ends the room for more queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomEnd {
    /// `RLIMIT_MSGQUEUE`.
    Bytes,
    /// `fs.mqueue.queues_max`.
    Queues,
    /// `RLIMIT_NOFILE`, if measured: a queue exists without being open.
    ///
    /// There may be more room for other processes, and for this one if it closes some descriptors.
    Descriptors,
}

pub(super) fn soft_limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().and_then(|(soft, _)| finite(soft))
}

fn finite(limit: rlim_t) -> Option<u64> {
    (limit != nix::sys::resource::RLIM_INFINITY).then_some(limit)
}

pub(super) fn show_limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// A file about this thread in `/proc`.
fn own(file: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/{file}")).unwrap_or_default()
}

/// Whether a thread of this status has `CAP_SYS_RESOURCE`, number 24 in `capabilities(7)`, over the
/// whole system: with the user IDs of a user namespace the kernel does not count it.
fn is_exempt(status: &str, uid_map: &str) -> bool {
    let effective = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let effective = effective.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    let everybody = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    everybody && effective.is_some_and(|it| it & (1 << 24) != 0)
}

fn sysctl(name: &str, default: u64) -> u64 {
    let text: io::Result<String> = fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}"));
    text.ok()
        .and_then(|it| it.trim().parse().ok())
        .unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_queue_is_the_kernels() {
        assert_eq!(cost(10, 8192), 82_880);
        assert_eq!(cost(10, 256), 3_520);
        // The charge ends with the number of priorities.
        assert_eq!(cost(65_536, 1), 65_536 * 49 + 32_768 * 48);
        assert_eq!(cost(usize::MAX, usize::MAX), u64::MAX);
    }

    #[test]
    fn room_is_what_the_nearer_limit_leaves() {
        let mut limits = Limits::read_system();
        (limits.queues_max, limits.bytes_soft) = (256, Some(819_200));
        limits.exempt = false;
        let room = |limits: &Limits| {
            let Room { queues, ends_with } = limits.room_for(82_880);
            (queues, ends_with)
        };
        let (bytes, number) = (Some(RoomEnd::Bytes), Some(RoomEnd::Queues));
        assert_eq!(room(&limits), (9, bytes));
        limits.usage = Usage {
            queues: 250,
            own_bytes: 82_880,
            ..Usage::default()
        };
        assert_eq!(room(&limits), (6, number));
        limits.usage.own_bytes = 3 * 82_880;
        assert_eq!(room(&limits), (6, number), "the kernel looks there first");
        limits.usage.own_bytes = 4 * 82_880;
        assert_eq!(room(&limits), (5, bytes));
        limits.bytes_soft = None;
        assert_eq!(room(&limits), (6, number));
        // Exempt from the number, not from the bytes.
        limits.exempt = true;
        assert_eq!(room(&limits), (u64::MAX, None));
        limits.bytes_soft = Some(819_200);
        assert_eq!(room(&limits), (5, bytes));
        limits.usage = Usage {
            queues: 1000,
            own_bytes: 1 << 30,
            ..Usage::default()
        };
        assert_eq!(room(&limits), (0, bytes));
    }

    #[test]
    fn only_a_capability_over_the_whole_system_exempts() {
        let status = |caps: &str| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{caps}\nSeccomp:\t0\n");
        let (all, none, others) = ("000001ffffffffff", "0000000000000000", "000001fffeffffff");
        let everybody = "         0          0 4294967295\n";
        assert!(is_exempt(&status(all), everybody));
        assert!(!is_exempt(&status(none), everybody));
        assert!(!is_exempt(&status(others), everybody));
        assert!(!is_exempt(&status(all), "0 100000 65536\n"));
        assert!(!is_exempt("", ""));
    }
}
