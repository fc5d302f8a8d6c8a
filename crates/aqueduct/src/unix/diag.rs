//! [`Diag`]: asks the kernel for the file of a bound socket, and for the owner of a peer.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, Socket, Type};

/// `SOCK_DIAG_BY_FAMILY`, `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// What can be asked, and the attributes of the answers: `linux/unix_diag.h`.
const FILE: Question = Question {
    show: 2,
    attribute: 1,
};
const PEER: Question = Question {
    show: 4,
    attribute: 2,
};
/// Since Linux 5.3.
const OWNER: Question = Question {
    show: 0x40,
    attribute: 7,
};

struct Question {
    show: u32,
    attribute: u16,
}

/// The lengths of `struct nlmsghdr` and of `struct unix_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// A `NETLINK_SOCK_DIAG` socket (sock_diag(7)), which any user may ask.
#[derive(Debug)]
pub(super) struct Diag(Socket);

impl Diag {
    /// Fails if the kernel does not support or allow such sockets.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
        // The kernel answers while the request is sent.
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Returns the lower 32 bits of the inode number of the file that a Unix socket is bound to.
    pub(super) fn file_of(mut self, socket: impl AsFd) -> io::Result<u32> {
        self.ask(number(socket)?, &FILE)
    }

    /// Returns the user that owns the peer of a connected Unix socket.
    pub(super) fn peer_owner(mut self, socket: impl AsFd) -> io::Result<u32> {
        let peer = self.ask(number(socket)?, &PEER)?;
        self.ask(peer, &OWNER)
    }

    /// Asks for one attribute of the socket with that number.
    fn ask(&mut self, inode: u32, question: &Question) -> io::Result<u32> {
        let mut request = Vec::with_capacity(40);
        let family = u8::try_from(libc::AF_UNIX).unwrap_or_default();
        request.extend(40_u32.to_ne_bytes());
        request.extend(BY_FAMILY.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([family, 0, 0, 0]);
        request.extend(u32::MAX.to_ne_bytes());
        request.extend(inode.to_ne_bytes());
        request.extend(question.show.to_ne_bytes());
        // No cookie.
        request.extend([0xff; 8]);
        self.0.write_all(&request)?;
        let mut answer = [0; 1024];
        let len = loop {
            match self.0.read(&mut answer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let answer = &answer[..len];
        let kind = u16_at(answer, 4).unwrap_or_default();
        if kind != BY_FAMILY {
            // An error in its place: its number, negative.
            let errno = u32_at(answer, HEADER).unwrap_or_default().cast_signed();
            return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
        }
        let mut attributes = answer.get(HEADER + MESSAGE..).unwrap_or_default();
        while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
            match u32_at(attributes, 4) {
                Some(value) if kind == question.attribute => return Ok(value),
                _ => {}
            }
            let len = usize::from(len).max(4).next_multiple_of(4);
            attributes = attributes.get(len..).unwrap_or_default();
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The number of a socket, which has 32 bits (`get_next_ino`).
fn number(socket: impl AsFd) -> io::Result<u32> {
    Ok(fstat(socket)?.st_ino as u32)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}
