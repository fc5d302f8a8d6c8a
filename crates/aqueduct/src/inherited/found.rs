//! Inherited descriptors: their kind, and taking them over once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockRef, Type};

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::fd::{Access, Kind};
use crate::io::sys::{self, NotInherited};

/// The kind of an inherited descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Pipe(Access),
    Queue(Access),
    /// A connected stream socket of any family.
    Stream(Domain),
    /// A connected `SOCK_SEQPACKET` Unix socket.
    Packets,
    TcpListener,
    UnixListener,
    PacketListener,
    /// A terminal or another device, for both directions if its access mode allows.
    Device(Access),
    File(Access),
}

impl Found {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Result<Self, &'static str>> {
        let access = Access::of(fd)?;
        Ok(Ok(match Kind::of(fd)? {
            Kind::Pipe => Self::Pipe(access),
            Kind::MessageQueue => Self::Queue(access),
            Kind::CharDevice => Self::Device(access),
            Kind::File | Kind::BlockDevice => Self::File(access),
            Kind::Socket => return Self::of_socket(fd),
            kind @ Kind::Directory => return Ok(Err(kind.words())),
            Kind::Other => return Ok(Err("of no kind that carries messages")),
        }))
    }

    fn of_socket(fd: BorrowedFd<'_>) -> io::Result<Result<Self, &'static str>> {
        let socket = SockRef::from(&fd);
        let (domain, kind) = (socket.domain()?, socket.r#type()?);
        let is_ip = domain == Domain::IPV4 || domain == Domain::IPV6;
        Ok(if socket.is_listener()? {
            match (domain, kind) {
                (Domain::UNIX, Type::STREAM) => Ok(Self::UnixListener),
                (Domain::UNIX, Type::SEQPACKET) => Ok(Self::PacketListener),
                (_, Type::STREAM) if is_ip => Ok(Self::TcpListener),
                _ => Err("a listening socket of a family that is not known here"),
            }
        } else {
            match (domain, kind) {
                (_, Type::STREAM) => Ok(Self::Stream(domain)),
                (Domain::UNIX, Type::SEQPACKET) => Ok(Self::Packets),
                (_, Type::DGRAM) => Err("a datagram socket, which has no connection"),
                _ => Err("a socket of a type that is not known here"),
            }
        })
    }

    fn keeps_boundaries(self) -> bool {
        matches!(self, Self::Queue(_) | Self::Packets | Self::PacketListener)
    }

    /// Why this cannot do what is asked, if it cannot.
    fn refuses(self, use_: Use) -> Option<String> {
        match (self, use_) {
            (Self::Pipe(_) | Self::Queue(_) | Self::File(_), Use::Connect | Use::Bind) => {
                let one_way = "its direction is one-way; use a descriptor that goes both ways, such \
                               as a socket, or join two one-way addresses with connect_pair";
                Some(one_way.to_owned())
            }
            (Self::Device(access), Use::Connect | Use::Bind) => {
                (access != Access::ReadWrite).then(|| only(access))
            }
            (
                Self::Pipe(access)
                | Self::Queue(access)
                | Self::File(access)
                | Self::Device(access),
                _,
            ) => {
                let fits = match use_ {
                    Use::Send => access.can_write(),
                    _ => access.can_read(),
                };
                (!fits).then(|| only(access))
            }
            (
                Self::TcpListener | Self::UnixListener | Self::PacketListener,
                Use::Connect | Use::Send,
            ) => Some("the descriptor is a listening socket, which has no peer".into()),
            _ => None,
        }
    }
}

fn only(access: Access) -> String {
    format!("the descriptor is open only for {access}; pass down one that is open for this use")
}

/// The use that a descriptor is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Connect,
    Bind,
    Send,
    Receive,
}

impl Use {
    fn action(self) -> &'static str {
        match self {
            Self::Connect => "connect to",
            Self::Bind => "bind",
            Self::Send => "send to",
            Self::Receive => "receive from",
        }
    }
}

/// Takes an inherited descriptor over, if it can do what is asked; otherwise it stays unchanged.
///
/// The standard ones, 0 to 2, belong to `std::io`: for these it returns a duplicate, any number of
/// times.
/// `framed`: the address asks for a framing.
pub(super) fn take(
    number: i32,
    address: &str,
    use_: Use,
    framed: bool,
) -> Result<(OwnedFd, Found), OpenError> {
    let failed = |source| OpenError::system("open", address, source);
    let check = |fd: BorrowedFd<'_>| {
        let refused = match Found::of(fd).map_err(failed)? {
            Ok(found) if framed && found.keeps_boundaries() => {
                let cause = "the descriptor keeps boundaries, and takes no frame";
                let kind = OpenErrorKind::InvalidOption;
                let error = OpenError::new(use_.action(), address, kind, cause);
                return Err(error.with_cure("leave the option out"));
            }
            Ok(found) => match found.refuses(use_) {
                None => return Ok(found),
                Some(refused) => refused,
            },
            Err(kind) => format!("the descriptor is {kind}"),
        };
        let kind = OpenErrorKind::Unsupported;
        Err(OpenError::new(use_.action(), address, kind, refused))
    };
    let standard = match number {
        0 => Some(io::stdin().as_fd().try_clone_to_owned()),
        1 => Some(io::stdout().as_fd().try_clone_to_owned()),
        2 => Some(io::stderr().as_fd().try_clone_to_owned()),
        _ => None,
    };
    if let Some(duplicate) = standard {
        let duplicate = duplicate.map_err(failed)?;
        let found = check(duplicate.as_fd())?;
        return Ok((duplicate, found));
    }
    sys::take_inherited(number, check)
        .unwrap_or_else(|problem| Err(not_inherited("open", address, problem)))
}

/// Explains why a descriptor cannot be taken, and what to do about it.
pub(super) fn not_inherited(
    action: &'static str,
    object: &str,
    problem: NotInherited,
) -> OpenError {
    let handed = "the program that starts this one must pass it down";
    let (cause, cure) = match problem {
        NotInherited::NotOpen => ("it is not open", handed),
        NotInherited::Taken => ("it was already taken, and can be taken only once", ""),
        NotInherited::NotClaimed => (
            "this program has not claimed the descriptors that it inherited",
            "call aqueduct::inherited::claim first thing in main",
        ),
        NotInherited::Owned => (
            "it was not inherited, and some part of this program may own it",
            handed,
        ),
    };
    let error = OpenError::new(action, object, OpenErrorKind::NotInherited, cause).with_cure(cure);
    match problem {
        NotInherited::NotOpen => error.with_source(io::Error::from_raw_os_error(libc::EBADF)),
        _ => error,
    }
}
