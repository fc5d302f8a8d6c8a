//! Descriptors that this process was started with, each of which can be taken over once.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{is_marked, mark};

/// One above the largest number that counts as inherited: what `ulimit -n` is by default.
const END: usize = 1024;

/// What became of each number. Written before `main`, then under the lock of [`OFFERED`] alone.
static STATES: [AtomicU8; END] = [const { AtomicU8::new(NOTHING) }; END];

/// Nothing that could be taken.
const NOTHING: u8 = 0;
/// Open when the process began, and to be inherited: nobody in the process has opened it.
const INHERITED: u8 = 1;
/// Taken over.
const TAKEN: u8 = 2;

/// Descriptors that the program itself has put in place, by number.
type Offered = BTreeMap<RawFd, OwnedFd>;

static OFFERED: Mutex<Offered> = Mutex::new(BTreeMap::new());

/// Why a descriptor cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInherited {
    /// No descriptor of this number is open.
    NotOpen,
    /// It was taken before.
    Taken,
    /// It was opened by this program, or may have been.
    Reserved,
}

/// Takes over descriptor `number`, which this process has inherited or [`offer`] has put there, if
/// `check` likes it; otherwise it stays as it is.
///
/// From then on it is closed on `exec`. What else the program has open is out of reach: only what
/// was open before `main` counts as inherited, and that nobody in the program can own but by
/// `unsafe` code of its own.
pub(crate) fn take_inherited<T, E>(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<T, E>,
) -> Result<Result<(OwnedFd, T), E>, NotInherited> {
    // One at a time: a descriptor must not be closed under `check`.
    let mut offered = OFFERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fd) = offered.remove(&number) {
        return Ok(match check(fd.as_fd()) {
            Ok(checked) => {
                mark(number).map_err(|_| NotInherited::NotOpen)?;
                set_state(number, TAKEN);
                Ok((fd, checked))
            }
            Err(error) => {
                offered.insert(number, fd);
                Err(error)
            }
        });
    }
    let is_marked = is_marked(number);
    match (state(number), is_marked) {
        // An inherited one that somebody has marked since is somebody's.
        (INHERITED, Ok(false)) => {}
        (TAKEN, _) => return Err(NotInherited::Taken),
        (_, Ok(_)) => return Err(NotInherited::Reserved),
        (_, Err(_)) => return Err(NotInherited::NotOpen),
    }
    // SAFETY: it is open, and stays so, as nobody in this process owns it; see below.
    let checked = match check(unsafe { BorrowedFd::borrow_raw(number) }) {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(error)),
    };
    mark(number).map_err(|_| NotInherited::NotOpen)?;
    set_state(number, TAKEN);
    // SAFETY: it is open since before `main`, so that none of the program's code has opened it, and
    // the state lets it be taken once.
    Ok(Ok((unsafe { OwnedFd::from_raw_fd(number) }, checked)))
}

/// Puts a descriptor where [`take_inherited`] finds it, under its own number.
pub(crate) fn offer(fd: OwnedFd) -> RawFd {
    let mut offered = OFFERED.lock().unwrap_or_else(PoisonError::into_inner);
    let number = fd.as_raw_fd();
    offered.insert(number, fd);
    number
}

fn cell(number: RawFd) -> Option<&'static AtomicU8> {
    STATES.get(usize::try_from(number).ok()?)
}

fn state(number: RawFd) -> u8 {
    cell(number).map_or(NOTHING, |it| it.load(Ordering::Relaxed))
}

fn set_state(number: RawFd, state: u8) {
    if let Some(cell) = cell(number) {
        cell.store(state, Ordering::Relaxed);
    }
}

/// Called by the loader before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note_inherited;

/// Notes what is open and not closed on `exec`. (The crate command-fds has the like; there `unsafe` code
/// of the program has to call it before all else.)
///
/// In a library that is loaded at run time this comes too late to tell, so then it notes nothing.
/// Nothing here allocates, or needs more than the C library.
extern "C" fn note_inherited() {
    // Miri has no dl_iterate_phdr.
    if cfg!(miri) || !is_in_main_program(note_inherited as *const () as usize) {
        return;
    }
    let mut fds = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; END];
    for (number, poll) in (0..).zip(&mut fds) {
        // The standard ones belong to `std::io`. A negative number is passed over.
        poll.fd = if number > 2 { number } else { -1 };
    }
    // One system call tells which are open; poll(2). It takes as many as may be open at all.
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one structure, which is ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let count = limit.rlim_cur.min(END as libc::rlim_t);
    // SAFETY: `count` structures, which live through the call. It does not wait.
    while unsafe { libc::poll(fds.as_mut_ptr(), count as libc::nfds_t, 0) } < 0 {
        // A signal can come in between even so.
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
    for poll in fds.iter().take(count as usize) {
        let is_open = poll.fd >= 0 && poll.revents & libc::POLLNVAL == 0;
        if is_open && is_marked(poll.fd).is_ok_and(|it| !it) {
            set_state(poll.fd, INHERITED);
        }
    }
}

/// Whether `address` is in the program's own file, not in a library's; `dl_iterate_phdr(3)`.
fn is_in_main_program(address: usize) -> bool {
    /// Asked for each file in memory, of which the program's own is the first.
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        asked: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a structure that is valid for the call, and on what it was
        // given: a pointer to `asked` below.
        let (info, asked) = unsafe { (&*info, &mut *asked.cast::<(usize, bool)>()) };
        // SAFETY: there are as many headers as it says, in memory for as long as the program.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        asked.1 = headers.iter().any(|header| {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            header.p_type == libc::PT_LOAD && asked.0.wrapping_sub(start) < header.p_memsz as usize
        });
        // Not zero: that was all.
        1
    }
    let mut asked = (address, false);
    // SAFETY: the function is of the type that is called, and `asked` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut asked).cast()) };
    asked.1
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn take(number: RawFd) -> Result<OwnedFd, NotInherited> {
        let taken = take_inherited(number, |_| Ok::<_, Infallible>(()))?;
        Ok(taken
            .map(|(fd, ())| fd)
            .unwrap_or_else(|never| match never {}))
    }

    #[test]
    fn what_is_in_the_program_itself_is_told_from_what_a_library_has() {
        assert!(is_in_main_program(take as *const () as usize));
        // The C library, but where that is linked into the program.
        let is_own = cfg!(target_feature = "crt-static");
        assert_eq!(
            is_in_main_program(libc::getpid as *const () as usize),
            is_own
        );
        assert!(!is_in_main_program(0));
    }

    #[test]
    fn a_descriptor_of_the_programs_own_is_out_of_reach_whatever_its_flags() {
        // As nix opens it: safely owned here, and not marked.
        let own = nix::unistd::dup(io::stderr()).unwrap();
        assert!(!is_marked(own.as_raw_fd()).unwrap());
        let refused = take(own.as_raw_fd()).unwrap_err();
        // `Taken` if another test has taken this number before.
        assert_ne!(refused, NotInherited::NotOpen);
        assert!(nix::sys::stat::fstat(&own).is_ok(), "it is still open");
    }

    #[test]
    fn an_offered_one_is_taken_once_and_stays_if_it_is_not_liked() {
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
    fn a_number_that_is_not_open_is_told() {
        for number in [-1, RawFd::MIN, RawFd::MAX] {
            assert_eq!(take(number).unwrap_err(), NotInherited::NotOpen);
        }
    }
}
