//! Facts of the kernel that the rest relies on: what epoll reports, and what it refuses.

use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};

use aqueduct::frame::{FrameError, Framing};
use aqueduct::pipe::Receiver;
use futures_util::StreamExt;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::pipe::four_pages_of;
use crate::support::deadline;

fn epoll() -> Epoll {
    Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap()
}

/// Watches `fd` edge-triggered.
fn watch(epoll: &Epoll, fd: impl AsFd, flags: EpollFlags) -> nix::Result<()> {
    epoll.add(fd, EpollEvent::new(flags | EpollFlags::EPOLLET, 0))
}

/// How many descriptors have something new to report.
fn events(epoll: &Epoll) -> usize {
    let mut events = [EpollEvent::empty(); 4];
    epoll.wait(&mut events, EpollTimeout::ZERO).unwrap()
}

/// Also when nothing was read.
#[test]
fn every_write_is_an_edge_for_the_reader() {
    let (reader, mut writer) = pipe().unwrap();
    let epoll = epoll();
    watch(&epoll, &reader, EpollFlags::EPOLLIN).unwrap();
    assert_eq!(events(&epoll), 0);
    for _ in 0..5 {
        writer.write_all(b"x").unwrap();
        assert_eq!(events(&epoll), 1);
        assert_eq!(events(&epoll), 0, "one edge for each write");
    }
}

#[test]
fn a_read_is_an_edge_for_the_writer_only_if_the_pipe_was_full() {
    let (mut reader, mut writer) = pipe().unwrap();
    four_pages_of(&writer);
    let epoll = epoll();
    watch(&epoll, &writer, EpollFlags::EPOLLOUT).unwrap();
    assert_eq!(events(&epoll), 1, "it has room to begin with");
    let mut page = [0; 4096];
    writer.write_all(&page).unwrap();
    reader.read_exact(&mut page).unwrap();
    assert_eq!(events(&epoll), 0, "it was not full");
    writer.write_all(&[0; 4 * 4096]).unwrap();
    reader.read_exact(&mut page).unwrap();
    assert_eq!(events(&epoll), 1);
}

#[test]
fn epoll_takes_a_descriptor_once_and_its_duplicate_too() {
    let (reader, _writer) = pipe().unwrap();
    let epoll = epoll();
    watch(&epoll, &reader, EpollFlags::EPOLLIN).unwrap();
    let again = watch(&epoll, &reader, EpollFlags::EPOLLIN);
    assert_eq!(again, Err(Errno::EEXIST));
    let duplicate = reader.try_clone().unwrap();
    assert_ne!(duplicate.as_raw_fd(), reader.as_raw_fd());
    watch(&epoll, &duplicate, EpollFlags::EPOLLIN).unwrap();
}

/// Why many writers need more than a plain pipe: what is over `PIPE_BUF` may be written in part,
/// and then anybody's bytes come next.
#[tokio::test]
async fn a_frame_over_pipe_buf_is_torn_by_another_writer() {
    let (mut reader, mut one) = pipe().unwrap();
    four_pages_of(&one);
    let mut other = one.try_clone().unwrap();
    one.write_all(&[0; 3 * 4096]).unwrap();
    let frame = [&5000u32.to_be_bytes()[..], &[b'x'; 5000]].concat();
    // What a non-blocking writer does that has one page left: begin, and wait.
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&one, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    let begun = one.write(&frame).unwrap();
    assert_eq!(begun, 4096);
    reader.read_exact(&mut [0; 3 * 4096]).unwrap();
    other.write_all(b"\0\0\0\x02hi").unwrap();
    one.write_all(&frame[begun..]).unwrap();
    drop((one, other));
    let mut frames = Receiver::from_owned_fd(reader.into())
        .unwrap()
        .framed(Framing::length());
    let torn = deadline(frames.next()).await.unwrap().unwrap();
    assert_eq!(torn.len(), 5000);
    assert_eq!(&torn[4092..4098], b"\0\0\0\x02hi", "the other's bytes");
    let error = deadline(frames.next()).await.unwrap().unwrap_err();
    assert!(FrameError::of(&error).is_some(), "the stream is broken");
}
