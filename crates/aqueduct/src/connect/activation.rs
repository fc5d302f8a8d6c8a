//! Sockets that a service manager has bound and passed down: systemd's socket activation.
//!
//! The protocol is `sd_listen_fds(3)`: `LISTEN_PID` is this process, `LISTEN_FDS` the number of
//! descriptors from number 3 on, `LISTEN_FDNAMES` their names, separated by colons.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, SockAddr, SockRef, Type};

use super::open_error::{OpenError, OpenErrorKind};
use crate::io::sys;

/// The number of the first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The address to look for among the sockets that were passed down.
#[derive(Debug)]
pub(crate) enum Wanted {
    Ip {
        at: Vec<SocketAddr>,
        kind: Type,
    },
    /// The name as the kernel has it: abstract names begin with a zero byte.
    Unix {
        name: Vec<u8>,
        kind: Type,
    },
}

impl Wanted {
    fn is(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let socket = SockRef::from(&fd);
        // Fails for anything but a socket.
        let kind = socket.r#type()?;
        if kind != Type::DGRAM && !socket.is_listener()? {
            return Ok(false);
        }
        let local = socket.local_addr()?;
        Ok(match self {
            Self::Ip { at, kind: wanted } => {
                kind == *wanted && local.as_socket().is_some_and(|it| at.contains(&it))
            }
            Self::Unix { name, kind: wanted } => {
                kind == *wanted
                    && local.domain() == Domain::UNIX
                    && unix_name(&local).is_some_and(|it| it == *name)
            }
        })
    }
}

/// Takes over the socket that is bound to that address, if one was passed down, and returns it with
/// its name.
pub(crate) fn take(wanted: &Wanted) -> Option<(OwnedFd, String)> {
    let count = passed()?;
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    for i in 0..count {
        let name = names.next().unwrap_or_default().to_owned();
        let check = |fd: BorrowedFd<'_>| match wanted.is(fd) {
            Ok(true) => Ok(()),
            _ => Err(()),
        };
        // A descriptor that is closed, was taken before or never claimed counts as another address.
        if let Ok(Ok((fd, ()))) = sys::take_inherited(FIRST + i, check) {
            tracing::debug!(
                target: "aqueduct::connect", number = FIRST + i, name, "took an activated socket"
            );
            return Some((fd, name));
        }
    }
    None
}

/// Returns how many descriptors were passed down to this process.
fn passed() -> Option<RawFd> {
    let variable = |name: &str| std::env::var(name).ok();
    let (pid, count) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    count_for(pid.as_deref(), count.as_deref(), std::process::id())
}

/// Returns how many descriptors these variables pass down to process `own`.
pub(crate) fn count_for(pid: Option<&str>, count: Option<&str>, own: u32) -> Option<RawFd> {
    if pid?.parse() != Ok(own) {
        return None;
    }
    let count: RawFd = count?.parse().ok()?;
    (0..=MOST).contains(&count).then_some(count)
}

fn unix_name(address: &SockAddr) -> Option<Vec<u8>> {
    if let Some(name) = address.as_abstract_namespace() {
        return Some([b"\0", name].concat());
    }
    Some(address.as_pathname()?.as_os_str().as_bytes().to_vec())
}

/// More than any service has; a larger number is invalid.
const MOST: RawFd = 4096;

/// Whether any sockets were passed down to this process.
pub(crate) fn is_used() -> bool {
    passed().is_some_and(|count| count > 0)
}

/// Adds the cure if an address is in use because the socket passed down for it was not claimed.
pub(crate) fn explain(error: OpenError) -> OpenError {
    if *error.kind() == OpenErrorKind::InUse && is_used() && !sys::has_claimed() {
        return error.with_cure(
            "call aqueduct::inherited::claim first thing in main, if this is the socket that the \
             service manager has handed down",
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_number_for_this_process_counts() {
        let count = |pid, count| count_for(Some(pid), Some(count), 7);
        assert_eq!(count("7", "2"), Some(2));
        assert_eq!(count("7", "0"), Some(0));
        assert_eq!(count("7", "4096"), Some(4096));
        for nonsense in ["", "-1", "4097", "2x", "99999999999999999999", " 2"] {
            assert_eq!(count("7", nonsense), None, "{nonsense:?}");
        }
        for other in ["8", "", "-7", "7 "] {
            assert_eq!(count(other, "2"), None, "{other:?}");
        }
        assert_eq!(count_for(None, Some("2"), 7), None);
        assert_eq!(count_for(Some("7"), None, 7), None);
    }
}
