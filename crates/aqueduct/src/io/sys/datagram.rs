//! `recvmsg(2)` for datagrams, with their sender.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// One received datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// The full length, which exceeds that of the buffer if the datagram was truncated.
    pub(crate) len: usize,
    /// The source address; its length is 0 if there is none.
    pub(crate) from: SockAddr,
    /// The sending process, if the socket has `SO_PASSCRED`.
    pub(crate) credentials: Option<libc::ucred>,
}

/// Room for one `SCM_CREDENTIALS` and nothing else, so that the kernel closes any descriptors sent
/// with the datagram. `u64`s, because a control message header must be aligned.
const CONTROL: usize = 4;

/// Receives one datagram without waiting.
pub(crate) fn recv_datagram(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Datagram> {
    let fd = fd.as_fd().as_raw_fd();
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let mut control = [0_u64; CONTROL];
    // SAFETY: a `msghdr` is integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let receive = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        header.msg_name = storage.cast();
        // SAFETY: the two pointers are valid, and the length is that of the storage.
        header.msg_namelen = unsafe { *len };
        // SAFETY: the header points to an address, a buffer and a control buffer, all ours to write
        // for the whole call, with their true lengths.
        let n = unsafe { libc::recvmsg(fd, &raw mut header, flags) };
        // SAFETY: as above.
        unsafe { *len = header.msg_namelen };
        // A negative count is the error; any other fits `usize`.
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    };
    // SAFETY: the kernel has written an address of that length, or none and the length 0.
    let (len, from) = unsafe { SockAddr::try_init(receive) }?;
    Ok(Datagram {
        len,
        from,
        credentials: credentials(&header),
    })
}

/// Returns the credentials in the first control message of `header`, if that is what it has.
fn credentials(header: &libc::msghdr) -> Option<libc::ucred> {
    // SAFETY: `recvmsg` has filled the header and its control buffer, which is still alive.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() {
        return None;
    }
    // SAFETY: the macro only gives pointers to whole, aligned headers in the buffer.
    let (level, kind, len) =
        unsafe { ((*first).cmsg_level, (*first).cmsg_type, (*first).cmsg_len) };
    // SAFETY: this only computes a length.
    let whole = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as _;
    if level != libc::SOL_SOCKET || kind != libc::SCM_CREDENTIALS || len < whole {
        return None;
    }
    // SAFETY: the message is whole, so a `ucred` follows its header; it need not be aligned.
    Some(unsafe {
        libc::CMSG_DATA(first)
            .cast::<libc::ucred>()
            .read_unaligned()
    })
}
