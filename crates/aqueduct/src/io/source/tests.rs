use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2, write};
use tokio_test::task;

use super::*;

/// Reads available bytes, and returns how many there were.
fn poll(source: &Source) -> Poll<io::Result<usize>> {
    let mut polled = task::spawn(std::future::poll_fn(|cx| {
        source.poll_io(cx, Direction::Read, |fd| {
            Ok(nix::unistd::read(fd, &mut [0; 8])?)
        })
    }));
    polled.poll()
}

fn pipe() -> (Source, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
    let source = Source::new(reader, Interest::READABLE).unwrap();
    (source.looking_again(), writer)
}

/// Of this many waits in a row, at most that many are skipped after a failed one.
const POLLS: usize = 20;

/// Nothing here lets the runtime's driver look.
#[tokio::test]
async fn an_answer_is_found_before_the_driver_has_seen_it() {
    let (source, writer) = pipe();
    write(&writer, b"first").unwrap();
    let first = source.io(Interest::READABLE, |fd| {
        Ok(nix::unistd::read(fd, &mut [0; 8])?)
    });
    assert_eq!(first.await.unwrap(), 5);
    assert!(poll(&source).is_pending());
    for _ in 0..3 {
        write(&writer, b"next").unwrap();
        let found = (0..POLLS).map(|_| poll(&source)).find(Poll::is_ready);
        assert!(matches!(found, Some(Poll::Ready(Ok(4)))), "{found:?}");
        assert!(poll(&source).is_pending());
    }
}

/// Until then every reader gets the end of the stream.
#[tokio::test]
async fn a_fifo_is_not_read_before_its_first_writer_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let reader = open(&path, flags | OFlag::O_RDONLY, Mode::empty()).unwrap();
    let source = Source::new(reader, Interest::READABLE).unwrap();
    let source = source.looking_again();
    for _ in 0..POLLS {
        assert!(poll(&source).is_pending());
        tokio::task::yield_now().await;
    }
    let writer = open(&path, flags | OFlag::O_WRONLY, Mode::empty()).unwrap();
    write(&writer, b"hello").unwrap();
    let read = source.io(Interest::READABLE, |fd| {
        Ok(nix::unistd::read(fd, &mut [0; 8])?)
    });
    assert_eq!(read.await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_multi_thread_runtime_is_left_to_its_driver() {
    let (source, _writer) = pipe();
    assert!(!source.retries.are_made());
}
