//! Descriptors from outside: those that the program has claimed, and those that were offered. Each
//! can be taken once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{is_marked, mark};

/// The descriptors that can be taken, and the state of the rest.
struct Store {
    /// Claimed or offered. Owned here until it is taken, so that nobody else can close it.
    held: BTreeMap<RawFd, OwnedFd>,
    taken: BTreeSet<RawFd>,
    has_claimed: bool,
}

static STORE: Mutex<Store> = Mutex::new(Store {
    held: BTreeMap::new(),
    taken: BTreeSet::new(),
    has_claimed: false,
});

fn store() -> MutexGuard<'static, Store> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a descriptor cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInherited {
    /// No descriptor of this number is open.
    NotOpen,
    /// It was already taken.
    Taken,
    /// It is open, and [`claim`] was never called.
    NotClaimed,
    /// It is open, and was neither claimed nor offered: it belongs to some part of this program.
    Owned,
}

/// Claims the descriptors that this process has inherited.
///
/// Addresses `fd:N` and this module can use them from then on.
///
/// Call it first thing in `main`. It claims every descriptor from 3 on that is open without
/// `FD_CLOEXEC`: a descriptor that was passed down lacks that flag, and those that Rust's standard
/// library and Tokio open have it. It also makes the sockets of a service manager available; see
/// [socket activation](crate::connect#socket-activation).
///
/// A claimed descriptor stays unchanged until it is opened or taken. Until then, programs that this
/// one starts inherit it too.
///
/// # Safety
///
/// No descriptor from 3 on that is open without `FD_CLOEXEC` may have an owner in this process, and
/// none may get one except through this module: no [`OwnedFd`], no `File`, no socket, and no C
/// library that goes on using its number. Before anything else has run in `main` this holds, unless
/// a constructor of some library has opened one.
///
/// Inside `#[tokio::main]` it holds as well: a runtime's own descriptors have `FD_CLOEXEC`.
///
/// # Examples
///
/// A program that answers its parent, which passed down descriptors 3 and 4:
///
/// ```no_run
/// # // Not run: it needs that parent. The module has an example with both sides.
/// use aqueduct::codec::Text;
/// use aqueduct::frame::Framing;
/// use aqueduct::inherited;
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // SAFETY: only inherited descriptors are open without FD_CLOEXEC here.
///     unsafe { inherited::claim() };
///     let mut parent = inherited::channel::<String, String, _>(4, 3, Framing::length(), Text)?;
///     while let Some(job) = parent.recv().await {
///         parent.send(job?.to_uppercase()).await?;
///     }
///     Ok(())
/// }
/// ```
pub unsafe fn claim() {
    let mut store = store();
    store.has_claimed = true;
    for number in open() {
        if store.held.contains_key(&number) || is_marked(number).unwrap_or(true) {
            continue;
        }
        store.taken.remove(&number);
        // SAFETY: it is open, and the caller vouches that nobody in this process owns it. The store
        // has it once, and returns it once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        store.held.insert(number, fd);
    }
}

/// The numbers from 3 on that may be open.
fn open() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        // Without /proc, the numbers that `ulimit -n` allows by default.
        return (3..1024).collect();
    };
    let names = entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    // Collected, so that the directory is closed when they are looked at.
    names.filter(|it| *it > 2).collect()
}

/// Whether [`claim`] was called.
pub(crate) fn has_claimed() -> bool {
    store().has_claimed
}

/// Takes over descriptor `number`, which was claimed or offered, if `check` accepts it; otherwise
/// it stays unchanged. From then on it is closed on `exec`.
pub(crate) fn take_inherited<T, E>(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<T, E>,
) -> Result<Result<(OwnedFd, T), E>, NotInherited> {
    // Locked throughout: a descriptor must not be taken while `check` runs.
    let mut store = store();
    let Some(fd) = store.held.get(&number) else {
        return Err(match is_marked(number) {
            _ if store.taken.contains(&number) => NotInherited::Taken,
            Err(_) => NotInherited::NotOpen,
            Ok(_) if store.has_claimed => NotInherited::Owned,
            Ok(_) => NotInherited::NotClaimed,
        });
    };
    let checked = match check(fd.as_fd()) {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(error)),
    };
    mark(number).map_err(|_| NotInherited::NotOpen)?;
    let fd = store.held.remove(&number).ok_or(NotInherited::NotOpen)?;
    store.taken.insert(number);
    Ok(Ok((fd, checked)))
}

/// Puts a descriptor where [`take_inherited`] finds it, under its own number.
pub(crate) fn offer(fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    store().held.insert(number, fd);
    number
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use super::*;

    fn take(number: RawFd) -> Result<OwnedFd, NotInherited> {
        let taken = take_inherited(number, |_| Ok::<_, Infallible>(()))?;
        Ok(taken
            .map(|(fd, ())| fd)
            .unwrap_or_else(|never| match never {}))
    }

    #[test]
    fn an_owned_descriptor_is_out_of_reach_whatever_its_flags() {
        // As nix opens it: safely owned here, and not marked.
        let own = nix::unistd::dup(io::stderr()).unwrap();
        assert!(!is_marked(own.as_raw_fd()).unwrap());
        let refused = take(own.as_raw_fd()).unwrap_err();
        // `Taken` if another test has already taken this number.
        assert_ne!(refused, NotInherited::NotOpen);
        assert!(nix::sys::stat::fstat(&own).is_ok(), "it is still open");
    }

    #[test]
    fn an_offered_descriptor_is_taken_once_and_kept_if_refused() {
        // As nix opens it: not marked.
        let number = offer(nix::unistd::dup(io::stderr()).unwrap());
        assert!(
            take_inherited(number, |_| Err::<(), _>("no"))
                .unwrap()
                .is_err()
        );
        assert!(!is_marked(number).unwrap());
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(is_marked(number).unwrap(), "closed on exec from now on");
        assert_eq!(take(number).unwrap_err(), NotInherited::Taken);
    }

    #[test]
    fn a_number_that_is_not_open_is_reported() {
        for number in [-1, RawFd::MIN, RawFd::MAX] {
            assert_eq!(take(number).unwrap_err(), NotInherited::NotOpen);
        }
    }
}
