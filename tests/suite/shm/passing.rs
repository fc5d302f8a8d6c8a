//! Descriptors that go with messages.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aqueduct::frame::FrameError;
use aqueduct::shm::{PeerError, Receiver, Sender};
use futures_util::StreamExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_test::{assert_pending, task};

use super::lend::{as_peer, lending, peer, raw_client, send};
use super::raw::{self, HEAD, PASSED};
use super::{pair, place};
use crate::support::{DEADLINE, alone, deadline, woken};

/// A pipe whose reader sees the end once all that was passed is closed.
struct Passed {
    reader: io::PipeReader,
    writer: Option<OwnedFd>,
}

impl Passed {
    fn new() -> Self {
        let (reader, writer) = io::pipe().expect("a pipe");
        let writer = Some(writer.into());
        Self { reader, writer }
    }

    fn fd(&self) -> &OwnedFd {
        self.writer.as_ref().expect("it is kept")
    }

    /// This side's own end is closed, so only what was passed is left.
    fn forget(mut self) -> io::PipeReader {
        self.writer = None;
        self.reader
    }

    /// Whether somebody still has it.
    fn is_open(&self) -> bool {
        !is_closed(&self.reader)
    }
}

/// Whether nobody has the other end any more.
fn is_closed(reader: &io::PipeReader) -> bool {
    hung_up(reader, PollTimeout::ZERO)
}

/// Nobody has the other end any more, but perhaps a process that another test is just starting.
fn assert_closed(reader: &io::PipeReader) {
    let limit = PollTimeout::try_from(DEADLINE).expect("it fits");
    assert!(hung_up(reader, limit), "it is still open");
}

fn hung_up(reader: &io::PipeReader, limit: PollTimeout) -> bool {
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::empty())];
    poll(&mut polled, limit).expect("it is polled") == 1
}

/// Both ends of a connection after both hellos; the server sends.
async fn ends(options: &str) -> (tempfile::TempDir, (Sender, Receiver), (Sender, Receiver)) {
    let (dir, _, address) = place(options);
    let (client, server, _listener) = pair(&address).await;
    let (client, mut server) = (lending(client), lending(server));
    send(&mut server.0, b"hello").await.expect("it is sent");
    (dir, server, client)
}

async fn pass(sender: &mut Sender, len: usize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let room = sender.reserve(len).await?;
    room.publish_with_fds(len, fds).await
}

fn borrowed(passed: &[Passed]) -> Vec<BorrowedFd<'_>> {
    passed.iter().map(|it| it.fd().as_fd()).collect()
}

#[tokio::test]
async fn descriptors_arrive_with_the_messages_they_were_sent_with() {
    let (_dir, (mut sender, _a), (_b, mut receiver)) = ends("?capacity=4KiB").await;
    let dir = tempfile::tempdir().expect("a directory");
    let files = |n: usize| -> Vec<File> {
        let name = |i| dir.path().join(format!("{n}-{i}"));
        (0..n % 4)
            .map(|i| {
                std::fs::write(name(i), format!("{n} {i}")).expect("written");
                File::open(name(i)).expect("a file")
            })
            .collect()
    };
    let sending = async {
        for n in 0..40 {
            let room = sender.reserve(n).await.expect("room");
            let sent = room.publish_with_fds(n, &files(n)).await;
            sent.expect("it is sent");
        }
    };
    let receiving = async {
        drop(receiver.lend().await);
        for n in 0..40_usize {
            let mut lent = receiver.lend().await.expect("a message").expect("whole");
            assert_eq!(lent.len(), n);
            if n % 3 == 0 {
                // Its descriptors are closed.
                continue;
            }
            let fds = lent.take_fds(3).expect("descriptors");
            assert_eq!(fds.len(), n % 4);
            for (i, fd) in fds.into_iter().enumerate() {
                let mut text = String::new();
                File::from(fd).read_to_string(&mut text).expect("read");
                assert_eq!(text, format!("{n} {i}"));
            }
            assert!(lent.take_fds(3).expect("none are left").is_empty());
        }
    };
    deadline(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn a_client_passes_descriptors_once_the_server_has_said_hello() {
    let (_dir, _, address) = place("");
    let (client, server, _listener) = pair(&address).await;
    let ((mut sender, _a), (_b, mut receiver)) = (lending(client), lending(server));
    let passed = [Passed::new()];
    // Sent early: it has a number too.
    send(&mut sender, b"early").await.expect("it is sent");
    let fds = borrowed(&passed);
    let mut passing = task::spawn(pass(&mut sender, 3, &fds));
    assert_pending!(passing.poll());
    let early = deadline(receiver.lend()).await.expect("a message");
    assert!(early.expect("whole").take_fds(1).expect("none").is_empty());
    deadline(passing).await.expect("it is sent");
    let with = deadline(receiver.lend()).await.expect("a message");
    assert_eq!(with.expect("whole").take_fds(1).expect("one").len(), 1);
}

#[tokio::test]
async fn descriptors_that_are_not_taken_are_closed() {
    let (_dir, (mut sender, _a), (_b, mut receiver)) = ends("").await;
    let mut passed: Vec<_> = (0..4).map(|_| Passed::new()).collect();
    for one in &passed {
        let fds = borrowed(std::slice::from_ref(one));
        deadline(pass(&mut sender, 1, &fds)).await.expect("sent");
    }
    for one in &mut passed {
        one.writer = None;
    }
    drop(deadline(receiver.lend()).await);
    drop(deadline(receiver.lend()).await);
    // What was looked at and not taken, not looked at, and is taken.
    assert_closed(&passed[0].reader);
    assert!(passed[1].is_open());
    drop(deadline(receiver.lend()).await);
    let mut lent = deadline(receiver.lend()).await.expect("a message");
    let taken = lent.as_mut().expect("whole").take_fds(1).expect("one");
    drop(lent);
    assert_closed(&passed[1].reader);
    assert!(passed[2].is_open() && passed[3].is_open());
    drop(taken);
    assert_closed(&passed[2].reader);
    drop((_b, receiver));
    assert_closed(&passed[3].reader);
}

#[tokio::test]
async fn ordinary_ends_close_what_is_passed_to_them() {
    let (_dir, _, address) = place("?capacity=4KiB");
    let (client, server, _listener) = pair(&address).await;
    let (mut sender, _a) = lending(client);
    let (_sink, mut stream) = server.into_frames();
    // More than the socket holds.
    const COUNT: usize = 1000;
    let sending = async {
        let mut readers = Vec::new();
        for n in 0..COUNT {
            let passed = Passed::new();
            let fds = borrowed(std::slice::from_ref(&passed));
            let len = n % 100;
            pass(&mut sender, len, &fds).await.expect("it is sent");
            drop(fds);
            readers.push(passed.forget());
            if readers.len() == 300 {
                readers.retain(|it| !is_closed(it));
            }
        }
        drop(sender);
        readers
    };
    let receiving = async {
        for n in 0..COUNT {
            let frame = stream.next().await.expect("a frame").expect("whole");
            assert_eq!(frame.len(), n % 100);
        }
        assert!(stream.next().await.is_none());
    };
    let (readers, ()) = deadline(async { tokio::join!(sending, receiving) }).await;
    assert!(deadline(stream.next()).await.is_none());
    drop((_sink, stream));
    readers.iter().for_each(assert_closed);
}

#[tokio::test]
async fn more_descriptors_than_allowed_cost_nothing_but_themselves() {
    let (_dir, (mut sender, _a), (_b, mut receiver)) = ends("").await;
    drop(deadline(receiver.lend()).await);
    let passed = Passed::new();
    let all = vec![passed.fd(); 254];
    let room = sender.reserve(1).await.expect("room");
    let error = room.publish_with_fds(1, &all).await.expect_err("too many");
    let (count, max) = (254, 253);
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::TooManyDescriptors { count, max })
    );
    let room = sender.reserve(1).await.expect("room");
    let error = room.publish_with_fds(2, &all[..1]).await;
    let error = error.expect_err("too long");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    for _ in 0..2 {
        let room = sender.reserve(1).await.expect("room");
        let sent = room.publish_with_fds(1, &all[..253]).await;
        sent.expect("as many as the kernel passes");
    }
    let mut lent = deadline(receiver.lend()).await.expect("a message");
    let one = lent.as_mut().expect("whole");
    let error = one.take_fds(254).expect_err("no such limit");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let error = one.take_fds(252).expect_err("too many");
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::DescriptorsTruncated {
            taken: 253,
            max: 252
        })
    );
    assert!(one.take_fds(253).expect("all were closed").is_empty());
    drop(lent);
    let mut next = deadline(receiver.lend()).await.expect("a message");
    let next = next.as_mut().expect("whole");
    assert_eq!(next.take_fds(253).expect("all").len(), 253);
    let reader = passed.forget();
    assert_closed(&reader);
}

#[tokio::test]
async fn a_full_socket_makes_the_sender_wait_until_it_is_read() {
    let (_dir, (mut sender, _a), (_b, mut receiver)) = ends("").await;
    drop(deadline(receiver.lend()).await);
    let passed = [Passed::new()];
    let fds = borrowed(&passed);
    let mut sent = 0;
    loop {
        let mut passing = task::spawn(pass(&mut sender, 1, &fds));
        match passing.poll() {
            std::task::Poll::Ready(done) => done.expect("it is sent"),
            std::task::Poll::Pending => break,
        }
        sent += 1;
        assert!(sent < 10_000, "the socket is never full");
    }
    // What was dropped has sent nothing.
    let mut passing = task::spawn(pass(&mut sender, 2, &fds));
    assert_pending!(passing.poll());
    for _ in 0..sent {
        let mut lent = deadline(receiver.lend()).await.expect("a message");
        let lent = lent.as_mut().expect("whole");
        assert_eq!((lent.len(), lent.take_fds(1).expect("one").len()), (1, 1));
    }
    woken(&passing).await;
    deadline(passing).await.expect("it is sent");
    let mut lent = deadline(receiver.lend()).await.expect("a message");
    let lent = lent.as_mut().expect("whole");
    assert_eq!((lent.len(), lent.take_fds(1).expect("one").len()), (2, 1));
}

/// How many descriptors this process may have, and its user may have in flight.
fn limit(to: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, to.min(hard), hard).expect("it is set");
}

/// The numbers of this process's descriptors.
pub(super) fn open_files() -> Vec<i32> {
    let names = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let numbers = names.map(|it| it.file_name().to_string_lossy().parse().expect("a number"));
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn limits_of_a_process_and_its_user_are_errors_of_a_message() {
    const TEST: &str = "shm::passing::limits_of_a_process_and_its_user_are_errors_of_a_message";
    alone(TEST, || {
        crate::actor::become_nobody();
        crate::actor::runtime().block_on(async {
            let (_dir, (mut sender, _a), (_b, mut receiver)) = ends("").await;
            drop(deadline(receiver.lend()).await);
            let passed = Passed::new();
            // No number below the highest one is free.
            let highest = open_files().last().copied().unwrap_or(0);
            let mut plugs = vec![File::open("/dev/null").expect("a file")];
            while plugs[plugs.len() - 1].as_raw_fd() <= highest {
                plugs.push(File::open("/dev/null").expect("a file"));
            }
            let free = plugs.pop().expect("one").as_raw_fd() as u64;
            let before = open_files();
            for room in [0, 2] {
                let fds = [passed.fd().as_fd(); 5];
                pass(&mut sender, 5, &fds).await.expect("it is sent");
                let mut lent = deadline(receiver.lend()).await.expect("a message");
                let lent = lent.as_mut().expect("whole");
                limit(free + room);
                let taken = lent.take_fds(10);
                limit(1024);
                let error = taken.expect_err("there is no room for them");
                let taken = room as usize;
                assert_eq!(
                    FrameError::of(&error),
                    Some(&FrameError::DescriptorsTruncated { taken, max: 10 })
                );
                assert_eq!((lent.len(), &open_files()), (5, &before));
            }
            // The limit for those in flight is that of descriptors.
            let fds = [passed.fd().as_fd(); 253];
            limit(64);
            let mut sent = 0;
            let error = loop {
                match pass(&mut sender, 1, &fds).await {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS));
            limit(1024);
            for _ in 0..sent {
                drop(deadline(receiver.lend()).await.expect("a message"));
            }
            let passed = pass(&mut sender, 1, &fds[..1]);
            passed.await.expect("it goes on");
            let mut lent = deadline(receiver.lend()).await.expect("a message");
            let lent = lent.as_mut().expect("whole");
            assert_eq!(lent.take_fds(1).expect("one").len(), 1);
        });
    });
}

#[tokio::test]
async fn a_peer_that_takes_none_is_passed_nothing_and_goes_on() {
    let (_dir, path, address) = place("");
    let (_listener, mut raw, (mut sender, _receiver)) = raw_client(&path, &address).await;
    let passed = [Passed::new()];
    let error = deadline(pass(&mut sender, 1, &borrowed(&passed))).await;
    let error = error.expect_err("it takes none");
    assert_eq!(PeerError::of(&error), Some(&PeerError::NoDescriptors));
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    deadline(send(&mut sender, b"on")).await.expect("sent");
    let (memory, _) = raw.receive().await;
    assert_eq!((raw::get(memory, HEAD), raw::get(memory, PASSED)), (6, 0));
}

/// Takes the first message's descriptors, and is killed with those of others unread.
#[test]
fn role_takes() {
    as_peer(
        "shm::passing::role_takes",
        async |mut sender, mut receiver| {
            let mut lent = receiver.lend().await.expect("a message").expect("whole");
            let fds = lent.take_fds(1).expect("a descriptor");
            drop(lent);
            send(&mut sender, b"taken").await.expect("sent");
            std::future::pending::<()>().await;
            drop(fds);
        },
    );
}

#[tokio::test]
async fn a_killed_peer_leaves_no_descriptor_open() {
    let (_dir, _, address) = place("");
    let (mut peer, (mut sender, mut receiver)) = peer("shm::passing::role_takes", &address).await;
    let passed: Vec<_> = (0..3).map(|_| Passed::new()).collect();
    for one in &passed {
        let fds = borrowed(std::slice::from_ref(one));
        deadline(pass(&mut sender, 1, &fds)).await.expect("sent");
    }
    drop(deadline(receiver.lend()).await.expect("it has taken one"));
    let readers: Vec<_> = passed.into_iter().map(Passed::forget).collect();
    assert!(readers.iter().all(|it| !is_closed(it)));
    peer.kill();
    readers.iter().for_each(assert_closed);
    drop((sender, receiver));
}

/// Passes one end of a pipe and is killed.
#[test]
fn role_passes() {
    as_peer(
        "shm::passing::role_passes",
        async |mut sender, mut receiver| {
            let (reader, writer) = io::pipe().expect("a pipe");
            io::Write::write_all(&mut &writer, b"left").expect("written");
            let room = sender.reserve(1).await.expect("room");
            room.publish_with_fds(1, &[reader]).await.expect("sent");
            let _ = receiver.lend().await;
            drop(writer);
        },
    );
}

#[tokio::test]
async fn descriptors_of_a_killed_sender_arrive_with_its_messages() {
    let (_dir, _, address) = place("");
    let (mut peer, (_sender, mut receiver)) = peer("shm::passing::role_passes", &address).await;
    let mut lent = deadline(receiver.lend()).await.expect("a message");
    peer.kill();
    let fds = lent.as_mut().expect("whole").take_fds(1).expect("one");
    let mut text = String::new();
    for fd in fds {
        File::from(fd).read_to_string(&mut text).expect("read");
    }
    assert_eq!(text, "left");
}
