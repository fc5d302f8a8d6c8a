//! [`limits`] and [`measure_room`]: what is in use, and how many more queues can be created.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use posixmq::PosixMq;

use crate::connect::OpenError;
use crate::mq::name::unlink;
use crate::mq::opening::new_attributes;
use crate::mq::refusal::create_failed;
use crate::mq::system_limits::{Limits, Room};
use crate::mq::usage;

/// After this many queues [`measure_room`] gives up looking for the end of the room.
const MAX_QUEUES: u64 = 4096;

/// Reads the limits on queues, and how much of them is visibly in use.
///
/// It changes nothing, except that each queue is opened for a moment, as in
/// [`list`](crate::mq::list). [`Usage`](crate::mq::Usage) describes what cannot be seen.
///
/// # Examples
///
/// ```
/// assert!(aqueduct::mq::limits().msg_max >= 1);
/// ```
pub fn limits() -> Limits {
    let mut limits = Limits::read_system();
    limits.usage = usage::look();
    limits
}

/// Finds out how many more queues of a size can be created.
///
/// It creates and removes them.
///
/// The size is capacity and largest message; `None` is the system's default. The result is exact.
/// For a few milliseconds this takes all the room there is, and another process of the same user
/// that creates a queue in that time fails. [`limits`] disturbs no other process but may not see
/// everything.
///
/// # Errors
///
/// `InvalidOption` if not even one of this size is allowed; otherwise any error of `mq_open(3)`
/// that is not a limit.
///
/// # Examples
///
/// ```no_run
/// # // Not run: it would take the room that other examples need at the same time.
/// use aqueduct::mq;
///
/// let room = mq::measure_room(Some((10, 8192)))?;
/// println!("{} more queues, then {:?}", room.queues, room.ends_with);
/// # Ok::<_, aqueduct::OpenError>(())
/// ```
pub fn measure_room(size: Option<(usize, usize)>) -> Result<Room, OpenError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (capacity, max_message) = (size.map(|it| it.0), size.map(|it| it.1));
    let (capacity, max_message) = new_attributes("/room", capacity, max_message)?;
    // Unlinked at once: if this process is killed, at most one is left behind.
    let mut made: Vec<PosixMq> = Vec::new();
    let mut ends_with = None;
    while ends_with.is_none() && (made.len() as u64) < MAX_QUEUES {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/aqueduct-room-{}-{next}", std::process::id());
        let opened = posixmq::OpenOptions::writeonly()
            .create_new()
            .capacity(capacity)
            .max_msg_len(max_message)
            .open(&name);
        match opened {
            Ok(queue) => {
                made.push(queue);
                unlink(&name)?;
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => {
                let failed = create_failed(&name, capacity, max_message, error);
                ends_with = Some(failed.limit.ok_or(failed.error)?);
            }
        }
    }
    Ok(Room {
        queues: made.len() as u64,
        ends_with,
    })
}
