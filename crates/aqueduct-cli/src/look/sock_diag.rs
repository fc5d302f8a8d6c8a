//! [`sockets`]: the bound Unix sockets, as the kernel tells them over netlink (sock_diag(7)).
//!
//! Unlike `/proc/net/unix` it keeps zero bytes in names, and tells which file a socket has made.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::sockets::{Inode, Socket};

/// `linux/netlink.h`.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `SOCK_DIAG_BY_FAMILY`, `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// What is asked for, and the attributes that answer it: `linux/unix_diag.h`.
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_VFS: u32 = 2;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
/// `TCP_LISTEN` in the kernel's `include/net/tcp_states.h`: the state of a listening socket.
const LISTENS: u8 = 10;
/// The lengths of `struct nlmsghdr` and of `struct unix_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;
/// More than the kernel puts into one datagram (`netlink_dump` in `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 1 << 16;

/// Fails where the kernel has no such netlink sockets, or does not allow them.
pub(super) fn sockets() -> io::Result<Vec<Socket>> {
    let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkSockDiag);
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, kind, flags, protocol)?;
    send(netlink.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut datagram = vec![0; DATAGRAM];
    let mut found = Vec::new();
    loop {
        let len = match recv(netlink.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let mut rest = &datagram[..len];
        while let Some((kind, message)) = next(&mut rest) {
            match kind {
                BY_FAMILY => found.extend(parse(message)),
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    // Its number, negative.
                    let errno = u32_at(message, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
                }
                _ => {}
            }
        }
    }
}

/// A request for every Unix socket of this network namespace.
fn request() -> Vec<u8> {
    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    let family = u8::try_from(libc::AF_UNIX).unwrap_or_default();
    request.extend([family, 0, 0, 0]);
    // In any state, with any number.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    let show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER;
    request.extend(show.to_ne_bytes());
    request.extend([0xff; 8]);
    request
}

/// Takes a netlink message off a datagram: its type and what follows its header.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let len = usize::try_from(u32_at(rest, 0)?).ok()?;
    let (kind, message) = (u16_at(rest, 4)?, rest.get(HEADER..len)?);
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

/// A socket that has a name.
fn parse(message: &[u8]) -> Option<Socket> {
    let (&kind, &state) = (message.get(1)?, message.get(2)?);
    let number = u32_at(message, 4)?;
    let (mut name, mut file, mut peer) = (None, None, None);
    let mut attributes = message.get(MESSAGE..)?;
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let len = usize::from(len).max(4);
        let value = attributes.get(4..len)?;
        match kind {
            UNIX_DIAG_NAME => name = Some(value),
            UNIX_DIAG_VFS => {
                file = Some(Inode {
                    number: u32_at(value, 0)?,
                    device: device(u32_at(value, 4)?),
                });
            }
            UNIX_DIAG_PEER => peer = u32_at(value, 0).map(u64::from),
            _ => {}
        }
        attributes = attributes
            .get(len.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    // A path ends at its zero byte, an abstract name begins with one.
    let name = match name? {
        name @ [0, ..] => name,
        name => name.split(|it| *it == 0).next()?,
    };
    Some(Socket {
        name: name.to_vec(),
        kind: i32::from(kind),
        listens: state == LISTENS,
        number: u64::from(number),
        peer,
        file,
    })
}

/// A device number as stat(2) gives it; the kernel's own form has 20 bits for the minor one.
fn device(kernel: u32) -> u64 {
    libc::makedev(kernel >> 20, kernel & 0xf_ffff)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_answer_is_no_panic() {
        let mut message = vec![1, 1, 10, 0];
        message.extend(7_u32.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(8_u16.to_ne_bytes());
        message.extend(UNIX_DIAG_PEER.to_ne_bytes());
        message.extend(9_u32.to_ne_bytes());
        message.extend(12_u16.to_ne_bytes());
        message.extend(UNIX_DIAG_VFS.to_ne_bytes());
        message.extend(5_u32.to_ne_bytes());
        message.extend(((254 << 20) | 3_u32).to_ne_bytes());
        message.extend(7_u16.to_ne_bytes());
        message.extend(UNIX_DIAG_NAME.to_ne_bytes());
        message.extend(b"/a\0\0");
        let socket = parse(&message).expect("it has a name");
        assert_eq!(socket.name, b"/a");
        assert!(socket.listens);
        assert_eq!(socket.peer, Some(9));
        let file = socket.file.expect("it has a file");
        assert_eq!((file.number, file.device), (5, libc::makedev(254, 3)));
        for len in 0..message.len() {
            parse(&message[..len]);
            let mut rest = &message[..len];
            while next(&mut rest).is_some() {}
        }
    }
}
