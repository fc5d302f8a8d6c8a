use std::fs;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, assert_ready_ok, task};

use super::*;

async fn deadline<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, future).await.expect("in time")
}

async fn woken<F: Future>(task: &task::Spawn<F>) {
    deadline(async {
        while !task.is_woken() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn pair() -> ((ReadHalf, WriteHalf), (ReadHalf, WriteHalf)) {
    let (a, b) = UnixStream::pair().expect("a pair");
    let split = |it| split(OwnedFd::from(UnixStream::into_std(it).expect("std"))).expect("halves");
    (split(a), split(b))
}

/// The events that the epoll instances of this process are to report of the socket behind `fd`: one
/// entry for each registration, by whichever descriptor (`proc_pid_fdinfo(5)`). Several descriptors
/// may be of one epoll instance.
fn registrations(fd: impl AsFd) -> Vec<u32> {
    let link = |fd: RawFd| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let socket = link(fd.as_fd().as_raw_fd()).expect("it is open");
    let mut found = Vec::new();
    for info in fs::read_dir("/proc/self/fdinfo").expect("/proc") {
        // Closed meanwhile, by another test.
        let Ok(text) = fs::read_to_string(info.expect("an entry").path()) else {
            continue;
        };
        for line in text.lines().filter_map(|it| it.strip_prefix("tfd:")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let (Some(number), Some(events), Some(data)) =
                (words.first(), words.get(2), words.get(4))
            else {
                continue;
            };
            if number.parse().ok().and_then(link) == Some(socket.clone()) {
                let events = u32::from_str_radix(events, 16).expect("a number");
                found.push(((*data).to_owned(), events));
            }
        }
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|(_, events)| events).collect()
}

fn writing(registrations: &[u32]) -> usize {
    let wanted = libc::EPOLLOUT as u32;
    registrations.iter().filter(|it| **it & wanted != 0).count()
}

/// Writes until the socket's buffer is full.
async fn fill(write: &mut WriteHalf) -> usize {
    let mut filled = 0;
    let block = [7; 4096];
    loop {
        let mut writing = task::spawn(write.write(&block));
        match writing.poll() {
            Poll::Ready(n) => filled += n.expect("it is written"),
            Poll::Pending => return filled,
        }
        // Tokio gives a task no more than its share in one turn.
        drop(writing);
        tokio::task::yield_now().await;
    }
}

async fn drain(read: &mut ReadHalf, bytes: usize) {
    let mut all = vec![0; bytes];
    deadline(read.read_exact(&mut all))
        .await
        .expect("they come");
}

#[tokio::test]
async fn only_what_waits_is_registered() {
    let ((_read, mut write), (mut there, _back)) = pair();
    let before = registrations(&write);
    assert_eq!((before.len(), writing(&before)), (1, 0), "{before:x?}");

    let filled = fill(&mut write).await;
    assert_eq!(writing(&registrations(&write)), 1);
    drain(&mut there, filled).await;

    // Dropped once writing has not had to wait for a while.
    for _ in 0..200 {
        deadline(write.write_all(b"x"))
            .await
            .expect("there is room");
        drain(&mut there, 1).await;
    }
    assert_eq!(registrations(&write), before);
}

#[tokio::test]
async fn a_full_buffer_makes_a_write_wait_and_a_reader_wakes_it() {
    let ((_read, mut write), (mut there, _back)) = pair();
    // Twice, since the second time it is registered already.
    for _ in 0..2 {
        let filled = fill(&mut write).await;
        let mut late = task::spawn(write.write(b"late"));
        assert_pending!(late.poll());
        drain(&mut there, filled).await;
        woken(&late).await;
        assert_eq!(assert_ready_ok!(late.poll()), 4);
        drop(late);
        drain(&mut there, 4).await;
    }
}

#[tokio::test]
async fn dropping_the_writing_half_ends_its_direction_alone() {
    for shut_down in [true, false] {
        let ((mut read, mut write), (mut there, mut back)) = pair();
        write.write_all(b"hello").await.expect("there is room");
        let kept = if shut_down {
            write.shutdown().await.expect("it is open");
            Some(write)
        } else {
            drop(write);
            None
        };
        let mut said = String::new();
        deadline(there.read_to_string(&mut said))
            .await
            .expect("it ends");
        assert_eq!(said, "hello");
        back.write_all(b"bye").await.expect("this way is open");
        drain(&mut read, 3).await;
        drop(kept);
    }
}

/// `sendmsg(2)` refuses more than 1,024 pieces.
#[tokio::test]
async fn of_more_pieces_than_one_call_takes_some_are_written() {
    let ((_read, mut write), (mut there, _back)) = pair();
    let pieces = [IoSlice::new(b"x"); 3000];
    let mut written = 0;
    while written < pieces.len() {
        let n = deadline(write.write_vectored(&pieces[written..])).await;
        written += n.expect("there is room");
    }
    drain(&mut there, written).await;
}

#[test]
fn a_write_waits_also_where_another_executor_polls_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ((_read, mut write), (mut there, _back)) = runtime.block_on(async { pair() });
    let mut filled = 0;
    while let Poll::Ready(n) = task::spawn(write.write(&[7; 4096])).poll() {
        filled += n.expect("it is written");
    }
    let mut late = task::spawn(write.write(b"late"));
    assert_pending!(late.poll());
    runtime.block_on(async {
        drain(&mut there, filled).await;
        woken(&late).await;
    });
    assert_eq!(assert_ready_ok!(late.poll()), 4);
}

/// Waiting for room needs a separate descriptor. If none is free it waits without, and fails no
/// connection that worked.
#[test]
fn a_write_waits_also_where_no_descriptor_is_free() {
    const NAME: &str = "unix::halves::tests::a_write_waits_also_where_no_descriptor_is_free";
    const ALONE: &str = "AQUEDUCT_TEST_ALONE";
    if std::env::var(ALONE).as_deref() != Ok(NAME) {
        // A separate process, whose limit it may lower.
        let mut command = std::process::Command::new(std::env::current_exe().expect("a test"));
        let output = command.args(["--exact", NAME]).env(ALONE, NAME).output();
        let output = output.expect("it can be run again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).expect("it can be lowered");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let ((_read, mut write), (mut there, _back)) = pair();
        let mut all = Vec::new();
        while let Ok(fd) = there.as_fd().try_clone_to_owned() {
            all.push(fd);
        }
        let filled = fill(&mut write).await;
        let late = async { write.write_all(b"late").await.expect("it is written") };
        let draining = drain(&mut there, filled + 4);
        deadline(async { tokio::join!(late, draining) }).await;
        drop(all);
    });
}

/// A program that has a reply to send does not ask for what it has just been told is not there.
#[tokio::test]
async fn a_glance_after_a_short_read_asks_for_nothing() {
    let ((mut reader, _here), (_there, mut writer)) = pair();
    writer.write_all(b"a").await.expect("written");
    let mut buf = [0; 8];
    assert_eq!(deadline(reader.read(&mut buf)).await.expect("read"), 1);
    writer.write_all(b"b").await.expect("written");
    let glanced = polling::glance(|| task::spawn(reader.read(&mut buf)).poll());
    assert_pending!(glanced);
    // It is there all the same.
    assert_eq!(deadline(reader.read(&mut buf)).await.expect("read"), 1);

    // A read that filled its buffer may have left something.
    writer.write_all(&[0; 9]).await.expect("written");
    assert_eq!(deadline(reader.read(&mut buf)).await.expect("read"), 8);
    let glanced = polling::glance(|| task::spawn(reader.read(&mut buf)).poll());
    assert_eq!(assert_ready_ok!(glanced), 1);
}
