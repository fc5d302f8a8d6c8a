//! Inherited descriptors: what they are, and taking them over once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, SockRef, Type};

use super::{Asked, DescriptorProblem, Error, Limit};
use crate::endpoint::{Endpoint, Fd};
use crate::fd::{Access, Kind};
use crate::sys::{self, NotInherited};

/// What an inherited descriptor turned out to be.
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
            Kind::Directory => return Ok(Err("a directory")),
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

    /// What keeps this from doing what is asked, if anything.
    fn refuses(self, asked: Asked) -> Option<Limit> {
        const LISTENS: Limit = Limit::Kind("a listening socket, which has no peer of its own");
        match (self, asked) {
            (Self::Pipe(_) | Self::Queue(_) | Self::File(_), Asked::Connect | Asked::Bind) => {
                Some(Limit::OneWay)
            }
            (Self::Device(access), Asked::Connect | Asked::Bind) => {
                (access != Access::ReadWrite).then_some(Limit::Access(access))
            }
            (
                Self::Pipe(access)
                | Self::Queue(access)
                | Self::File(access)
                | Self::Device(access),
                _,
            ) => {
                let fits = match asked {
                    Asked::Send => access.can_write(),
                    _ => access.can_read(),
                };
                (!fits).then_some(Limit::Access(access))
            }
            (
                Self::TcpListener | Self::UnixListener | Self::PacketListener,
                Asked::Connect | Asked::Send,
            ) => Some(LISTENS),
            _ => None,
        }
    }
}

/// Takes an inherited descriptor over, if it can do what is asked; else it stays as it is.
///
/// The standard ones, 0 to 2, belong to `std::io`: of these it gives a duplicate, any number of
/// times.
pub(super) fn take(endpoint: &Endpoint, fd: &Fd, asked: Asked) -> Result<(OwnedFd, Found), Error> {
    let failed = |source| Error::Io {
        endpoint: endpoint.clone(),
        source,
    };
    let check = |fd: BorrowedFd<'_>| {
        let found = Found::of(fd).map_err(failed)?;
        let limit = match found {
            Ok(found) => match found.refuses(asked) {
                None => return Ok(found),
                Some(limit) => limit,
            },
            Err(kind) => Limit::Kind(kind),
        };
        Err(Error::Unsupported {
            endpoint: endpoint.clone(),
            asked,
            limit,
        })
    };
    let problem = |problem| Error::Descriptor {
        endpoint: endpoint.clone(),
        problem,
    };
    let standard = match fd.number() {
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
    let number = RawFd::try_from(fd.number()).map_err(|_| problem(DescriptorProblem::NotOpen))?;
    match sys::take_inherited(number, check) {
        Ok(taken) => taken,
        Err(NotInherited::NotOpen) => Err(problem(DescriptorProblem::NotOpen)),
        Err(NotInherited::Taken) => Err(problem(DescriptorProblem::Taken)),
        Err(NotInherited::Reserved) => Err(problem(DescriptorProblem::Reserved)),
    }
}

/// An address for a descriptor of this program, `fd:N`, which can be opened once.
///
/// For one that came in another way than from the parent: in a message of a Unix socket
/// ([`unix::seqpacket`](crate::unix::seqpacket)), from a library, from a test. Until it is opened by
/// this address, or taken by [`child::inherited`](crate::child::inherited), it stays open, and is
/// passed on to other programs as its close-on-exec flag says.
///
/// # Errors
///
/// `EMFILE`: its number is one of 0 to 2, which are the standard streams', and no other is free.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::{Options, offer};
/// use futures_util::StreamExt;
/// use std::io::Write;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, mut writer) = std::io::pipe()?;
/// let address = offer(reader)?;
/// writer.write_all(b"\0\0\0\x02hi")?;
/// let mut incoming = Options::new().open_receiver(&address).await?;
/// assert_eq!(incoming.next().await.transpose()?.unwrap().body(), "hi");
/// # Ok(())
/// # }
/// ```
pub fn offer(fd: impl Into<OwnedFd>) -> io::Result<Endpoint> {
    let mut fd = fd.into();
    if fd.as_raw_fd() <= 2 {
        fd = fd.try_clone()?;
    }
    let number = u32::try_from(sys::offer(fd)).map_err(io::Error::other)?;
    Ok(Fd::new(number).map_err(io::Error::other)?.into())
}
