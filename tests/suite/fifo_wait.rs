//! A sender that waits for its reader: whoever starts first, whatever happens to the path meanwhile.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use aqueduct::OpenErrorKind;
use aqueduct::fifo::{OpenOptions, ReaderGone, Receiver, Sender};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo, setuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use crate::fifo::{cpu, with_fifo};
use crate::support::{Peer, compile_c, deadline, is_peer, peer_command, woken};

/// Reads a FIFO to its end, as a program that knows nothing of us does, and prints it.
const TAKE: &str = "
#include <fcntl.h>
#include <unistd.h>
int main(int n, char **arg) {
    char text[100];
    int fd = open(arg[1], O_RDONLY);
    ssize_t len;
    while ((len = read(fd, text, sizeof text)) > 0) write(1, text, len);
    return fd < 0 || len < 0;
}
";

/// Writes its second argument into a FIFO with the NUL that ends it.
const GIVE: &str = "
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **arg) {
    int fd = open(arg[1], O_WRONLY);
    return write(fd, arg[2], strlen(arg[2]) + 1) < 0;
}
";

fn take(program: &Path, path: &Path) -> Peer {
    Peer::spawn(Command::new(program).arg(path).stdout(Stdio::piped()))
}

async fn output(mut peer: Peer) -> String {
    assert!(peer.exit().await.unwrap().success());
    std::io::read_to_string(peer.0.stdout.take().unwrap()).unwrap()
}

fn make(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

async fn run(role: &str, dir: &Path) {
    let role = format!("fifo_wait::{role}");
    let mut peer = Peer::spawn(peer_command(&role).env("TEST_DIR", dir));
    let status = peer.exit().await.unwrap();
    assert!(status.success(), "{role}: {status}");
}

/// The future is driven until it sleeps, not just polled once.
async fn assert_waits<F: Future>(future: &mut task::Spawn<F>) {
    for _ in 0..3 {
        assert!(future.poll().is_pending());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_a_reader_opening_for_sending_says_so() {
    let (_dir, path) = with_fifo();
    let error = OpenOptions::new().try_open_sender(&path).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Refused);
    assert_eq!(error.object(), path.to_str().unwrap());
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
}

#[tokio::test]
async fn a_sender_waits_for_a_reader() {
    let (_dir, path) = with_fifo();
    for then in [ReaderGone::Fail, ReaderGone::Keep] {
        let mut options = OpenOptions::new();
        options.on_reader_gone(then);
        let mut open = task::spawn(options.open_sender(&path));
        assert_waits(&mut open).await;
        let mut receiver = Receiver::open(&path).unwrap();
        let mut sender = deadline(open).await.unwrap();
        deadline(sender.write_all(b"hello")).await.unwrap();
        drop(sender);
        let mut text = String::new();
        deadline(receiver.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "hello");
    }
}

#[tokio::test]
async fn either_of_two_processes_may_start_first_when_we_send() {
    let (dir, path) = with_fifo();
    let program = compile_c(dir.path(), "take", TAKE);

    let mut open = task::spawn(Sender::open(&path));
    assert_waits(&mut open).await;
    let peer = take(&program, &path);
    let mut sender = deadline(open).await.unwrap();
    deadline(sender.write_all(b"we were first")).await.unwrap();
    drop(sender);
    assert_eq!(output(peer).await, "we were first");

    // Blocked in open(2): nothing but trying tells that it is there.
    let peer = take(&program, &path);
    wait_until_blocked_in_open(peer.0.id()).await;
    let mut sender = deadline(Sender::open(&path)).await.unwrap();
    deadline(sender.write_all(b"it was first")).await.unwrap();
    drop(sender);
    assert_eq!(output(peer).await, "it was first");
}

#[tokio::test]
async fn either_of_two_processes_may_start_first_when_we_receive() {
    let (dir, path) = with_fifo();
    let program = compile_c(dir.path(), "give", GIVE);
    for we_first in [true, false] {
        let open = || OpenOptions::new().open_receiver(&path).unwrap();
        let mut receiver = we_first.then(open);
        let mut peer = Peer::spawn(Command::new(&program).arg(&path).arg("text"));
        if !we_first {
            wait_until_blocked_in_open(peer.0.id()).await;
        }
        // Releases a writer that is blocked in open(2), and does not miss what it then writes.
        let receiver = receiver.get_or_insert_with(open);
        let mut got = Vec::new();
        deadline(receiver.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, b"text\0");
        assert!(peer.exit().await.unwrap().success());
    }
}

/// The system call that a process sleeps in is the first word of /proc/pid/syscall.
async fn wait_until_blocked_in_open(pid: u32) {
    let open = libc::SYS_openat.to_string();
    deadline(async {
        loop {
            let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            if text.split(' ').next() == Some(&open) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_waiting_sender_makes_the_fifo_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let mut options = OpenOptions::new();
    options.create(true);
    let mut open = task::spawn(options.open_sender(&path));
    assert_waits(&mut open).await;
    let _receiver = Receiver::open(&path).unwrap();
    deadline(open).await.unwrap();
}

#[tokio::test]
async fn waiting_ends_at_its_time_limit() {
    let (_dir, path) = with_fifo();
    for limit in [Duration::ZERO, Duration::from_millis(30)] {
        let mut options = OpenOptions::new();
        options.wait(Some(limit));
        let before = Instant::now();
        let error = deadline(options.open_sender(&path)).await.unwrap_err();
        assert!(before.elapsed() >= limit);
        let waited = limit;
        assert_eq!(error.kind(), &OpenErrorKind::TimedOut { waited }, "{error}");
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        // With a reader there is nothing to wait for, however short the limit.
        let _receiver = Receiver::open(&path).unwrap();
        deadline(options.open_sender(&path)).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_costs_next_to_no_cpu() {
    let (_dir, path) = with_fifo();
    let mut options = OpenOptions::new();
    options.wait(Some(Duration::from_secs(1)));
    // On a crowded machine each wake-up can cost many times as much, so the best of a few counts.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let before = cpu();
        let error = options.open_sender(&path).await.unwrap_err();
        assert!(matches!(error.kind(), OpenErrorKind::TimedOut { .. }));
        best = best.min(cpu() - before);
        if best < Duration::from_millis(10) {
            break;
        }
    }
    eprintln!("waiting for a reader: {best:?} of CPU time in one second");
    assert!(best < Duration::from_millis(10), "{best:?}");
}

#[tokio::test]
async fn a_fifo_that_is_replaced_while_waiting_is_waited_for_instead() {
    let (dir, path) = with_fifo();
    let mut open = task::spawn(Sender::open(&path));
    assert_waits(&mut open).await;

    // Removed and made anew, as a shell script does, with a reader of the old one still there.
    fs::remove_file(&path).unwrap();
    assert_waits(&mut open).await;
    make(&path);
    assert_waits(&mut open).await;
    // Moved over it.
    let other = dir.path().join("other");
    make(&other);
    fs::rename(&other, &path).unwrap();
    assert_waits(&mut open).await;

    let _receiver = Receiver::open(&path).unwrap();
    let sender = deadline(open).await.unwrap();
    let of_sender = nix::sys::stat::fstat(&sender).unwrap().st_ino;
    assert_eq!(of_sender, nix::sys::stat::stat(&path).unwrap().st_ino);
}

#[tokio::test]
async fn what_replaces_a_fifo_while_waiting_is_checked() {
    let (_dir, path) = with_fifo();
    let mut open = task::spawn(Sender::open(&path));
    assert_waits(&mut open).await;
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    let error = deadline(open).await.unwrap_err();
    assert!(
        matches!(error.kind(), OpenErrorKind::WrongType { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_fifo_that_is_gone_while_waiting_is_made_again_or_an_error() {
    let (_dir, path) = with_fifo();
    let mut open = task::spawn(Sender::open(&path));
    assert_waits(&mut open).await;
    fs::remove_file(&path).unwrap();
    let error = deadline(open).await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::NotFound, "{error}");

    make(&path);
    let mut options = OpenOptions::new();
    options.create(true);
    let mut open = task::spawn(options.open_sender(&path));
    assert_waits(&mut open).await;
    fs::remove_file(&path).unwrap();
    let open = async { deadline(open).await.unwrap() };
    let receive = async {
        // Nothing is there until the sender makes it.
        loop {
            match Receiver::open(&path) {
                Ok(receiver) => return receiver,
                Err(e) if *e.kind() == OpenErrorKind::NotFound => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    };
    let (_sender, _receiver) = tokio::join!(open, receive);
}

/// Dropped after each number of polls: nothing stays open, nothing stays behind, nobody is disturbed.
#[tokio::test]
async fn giving_up_the_wait_at_any_await_point_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run("peer_giving_up", dir.path()).await;
}

fn peer_dir() -> PathBuf {
    std::env::var_os("TEST_DIR").unwrap().into()
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn peer_giving_up() {
    if !is_peer("fifo_wait::peer_giving_up") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let path = peer_dir().join("fifo");
        let before = open_descriptors();
        for polls in 0..20 {
            let mut options = OpenOptions::new();
            options.create(true).unlink_on_drop(true);
            let mut open = task::spawn(options.open_sender(&path));
            for _ in 0..polls {
                assert!(open.poll().is_pending());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(open);
            assert!(!path.exists());
        }
        // What was there before stays, and the wait was no opening: its reader sees no end.
        make(&path);
        let mut open = task::spawn(Sender::open(&path));
        assert_pending!(open.poll());
        drop(open);
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let mut receiver = Receiver::open(&path).unwrap();
        let mut byte = [0; 1];
        let mut read = task::spawn(receiver.read(&mut byte));
        for _ in 0..3 {
            assert_pending!(read.poll());
            tokio::task::yield_now().await;
        }
        drop(read);
        drop(receiver);
        assert_eq!(open_descriptors(), before);
    });
}

/// A user has few inotify instances. Without one, trying from time to time must do.
#[tokio::test]
async fn waiting_works_without_inotify() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can use up the instances of a user that nobody else is");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run("peer_without_inotify", dir.path()).await;
}

#[test]
fn peer_without_inotify() {
    if !is_peer("fifo_wait::peer_without_inotify") {
        return;
    }
    let path = peer_dir().join("fifo");
    make(&path);
    std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
    fs::set_permissions(
        peer_dir(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    setuid(54_321.into()).unwrap();
    let mut instances = Vec::new();
    while let Ok(instance) = Inotify::init(InitFlags::IN_CLOEXEC) {
        instances.push(instance);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut open = task::spawn(Sender::open(&path));
        assert_waits(&mut open).await;
        let receiver = Receiver::open(&path).unwrap();
        deadline(open).await.unwrap();
        drop(receiver);
        // No event tells of a removal either: checking finds it.
        let mut options = OpenOptions::new();
        options.create(true).persist(true);
        options.watch_name(Some(Duration::from_millis(20)));
        let mut receiver = options.open_receiver(&path).unwrap();
        let mut byte = [0];
        let mut read = task::spawn(receiver.read(&mut byte));
        assert!(matches!(read.poll(), Poll::Pending));
        fs::remove_file(&path).unwrap();
        let error = deadline(read).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Other, "{error}");
    });
}

/// Which is there, full and slow: the limit is on the wait for one.
#[tokio::test]
async fn a_reader_that_came_back_and_reads_late_is_no_time_out() {
    const LIMIT: Duration = Duration::from_secs(10);
    let (_dir, path) = with_fifo();
    let first = Receiver::open(&path).unwrap();
    let mut sender = OpenOptions::new()
        .on_reader_gone(ReaderGone::Wait)
        .wait(Some(LIMIT))
        .try_open_sender(&path)
        .unwrap();
    while nix::unistd::write(&sender, &[b'x'; 4096]).is_ok() {}
    drop(first);
    let mut writing = task::spawn(sender.write(b"more"));
    // First for news of the FIFO, then for a reader.
    assert_pending!(writing.poll());
    woken(&writing).await;
    assert_pending!(writing.poll());
    let second = Receiver::open(&path).unwrap();
    woken(&writing).await;
    assert_pending!(writing.poll());

    // Longer than it may wait for a reader.
    tokio::time::pause();
    tokio::time::advance(2 * LIMIT).await;
    tokio::time::resume();
    while nix::unistd::read(&second, &mut [0; 4096]).is_ok() {}
    woken(&writing).await;
    assert_eq!(deadline(writing).await.unwrap(), 4);
}
