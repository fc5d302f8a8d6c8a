//! Hellos that are wrong, each with an error that says how.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use aqueduct::bytes::Bytes;
use aqueduct::shm::PeerError;
use futures_util::{SinkExt, StreamExt};
use nix::fcntl::SealFlag;
use nix::sys::memfd::MFdFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::{DATA, FALLBACK, MEMORY, Raw, bell, good_memory, hello, memory, send};
use super::{accept, place, refusal, serves};
use crate::support::{Log, deadline};

const GOOD: u64 = 1 << 20;

/// A client's socket, and the other end of its bell: the peer must not see that end.
type Client = (UnixStream, Option<OwnedFd>);

/// Says hello with these descriptors.
fn says(path: &Path, hello: &[u8], fds: &[&dyn AsFd]) -> Client {
    let socket = UnixStream::connect(path).expect("it connects");
    let fds: Vec<_> = fds.iter().map(|it| it.as_fd().as_raw_fd()).collect();
    send(&socket, hello, &fds).expect("it is sent");
    (socket, None)
}

/// Passes this memory with a good bell.
fn passes(path: &Path, memory: &dyn AsFd) -> Client {
    let (theirs, ours) = bell();
    let (socket, _) = says(path, &hello(1, MEMORY, GOOD), &[memory, &theirs]);
    (socket, Some(ours))
}

fn sealed(len: u64) -> File {
    memory(len, SealFlag::F_SEAL_SHRINK, MFdFlags::empty())
}

type Case = (&'static str, fn(&Path) -> Client, PeerError);

const NOT_MEMORY: PeerError = PeerError::Memory("it was not made by memfd_create");
const WRONG_SIZE: PeerError = PeerError::Memory("its size is not that of a ring");

fn cases() -> Vec<Case> {
    let two = |path: &Path| {
        let (memory, (theirs, _)) = (good_memory(), bell());
        says(path, &hello(1, MEMORY, GOOD), &[&memory, &theirs, &memory])
    };
    vec![
        (
            "http",
            |path| says(path, b"GET / HTTP/1.1\r\n", &[]),
            PeerError::Magic,
        ),
        ("a line", |path| says(path, b"x\n", &[]), PeerError::Magic),
        (
            "a frame of unix:",
            |path| says(path, b"\0\0\0\x05hello", &[]),
            PeerError::Magic,
        ),
        (
            "another version",
            |path| says(path, &hello(9, MEMORY, GOOD), &[]),
            PeerError::Version { theirs: 9, ours: 1 },
        ),
        (
            "no ring fits",
            |path| says(path, &hello(1, MEMORY, 4095), &[]),
            PeerError::Hello("the largest ring that it reads is no such size"),
        ),
        (
            "no descriptor",
            |path| says(path, &hello(1, MEMORY, GOOD), &[]),
            PeerError::Descriptors(0),
        ),
        (
            "one descriptor",
            |path| says(path, &hello(1, MEMORY, GOOD), &[&good_memory()]),
            PeerError::Descriptors(1),
        ),
        ("three descriptors", two, PeerError::Descriptors(3)),
        (
            "descriptors without memory",
            |path| {
                says(
                    path,
                    &hello(1, FALLBACK, GOOD),
                    &[&good_memory(), &bell().0],
                )
            },
            PeerError::Descriptors(2),
        ),
        (
            "no memory",
            |path| says(path, &hello(1, FALLBACK, GOOD), &[]),
            PeerError::NoMemory("the peer"),
        ),
        (
            "a file",
            |path| passes(path, &tempfile::tempfile().expect("a file")),
            NOT_MEMORY,
        ),
        ("a pipe", |path| passes(path, &bell().0), NOT_MEMORY),
        (
            "a device",
            |path| passes(path, &File::open("/dev/null").expect("it is there")),
            NOT_MEMORY,
        ),
        (
            "huge pages",
            |path| {
                let flags = MFdFlags::MFD_HUGETLB;
                passes(path, &memory(2 << 20, SealFlag::F_SEAL_SHRINK, flags))
            },
            NOT_MEMORY,
        ),
        (
            "memory that may shrink",
            |path| {
                passes(
                    path,
                    &memory(DATA + 65_536, SealFlag::F_SEAL_GROW, MFdFlags::empty()),
                )
            },
            PeerError::Memory("it is not sealed, so it could become shorter"),
        ),
        ("no bytes", |path| passes(path, &sealed(0)), WRONG_SIZE),
        ("one page", |path| passes(path, &sealed(4096)), WRONG_SIZE),
        (
            "an odd size",
            |path| passes(path, &sealed(DATA + 5000)),
            WRONG_SIZE,
        ),
        (
            "memory to write only",
            |path| {
                let memory = good_memory();
                let name = format!("/proc/self/fd/{}", memory.as_raw_fd());
                let only = File::options().write(true).open(name).expect("it opens");
                passes(path, &only)
            },
            PeerError::Memory("it is not open for reading"),
        ),
        (
            "a bell to write to",
            |path| says(path, &hello(1, MEMORY, GOOD), &[&good_memory(), &bell().1]),
            PeerError::Bell,
        ),
        (
            "a bell that is a file",
            |path| {
                says(
                    path,
                    &hello(1, MEMORY, GOOD),
                    &[&good_memory(), &good_memory()],
                )
            },
            PeerError::Bell,
        ),
    ]
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn each_wrong_hello_of_a_client_is_a_typed_error() {
    crate::support::alone(
        "shm::hello::each_wrong_hello_of_a_client_is_a_typed_error",
        || {
            crate::actor::runtime().block_on(async {
                let (_dir, path, address) = place("");
                let mut listener = address.bind().await.expect("it is bound");
                serves(&address, &mut listener).await;
                for (name, client, expected) in cases() {
                    let before = open_files();
                    let client = client(&path);
                    let error = refusal(accept(&mut listener).await).await;
                    assert_eq!(error, expected, "{name}");
                    drop(client);
                    assert_eq!(open_files(), before, "{name}: a descriptor leaks");
                    serves(&address, &mut listener).await;
                }
            });
        },
    );
}

#[tokio::test]
async fn each_wrong_hello_of_a_server_is_a_typed_error() {
    for (name, server, expected) in cases() {
        let (_dir, path, address) = place("");
        let listener = UnixListener::bind(&path).expect("it is bound");
        let client = address.connect().await.expect("it connects");
        let (socket, _) = listener.accept().expect("it came");
        // What the case does as a client, done to the client: on a socket of its own.
        let (dir, own) = (tempfile::tempdir().expect("a directory"), "own");
        let own = dir.path().join(own);
        let relay = UnixListener::bind(&own).expect("it is bound");
        let case = server(&own);
        let (case_end, _) = relay.accept().expect("it came");
        forward(&case_end, &socket).await;
        let expected = match expected {
            PeerError::NoMemory(_) => PeerError::NoMemory("the peer"),
            other => other,
        };
        assert_eq!(refusal(client).await, expected, "{name}");
        drop((case, socket));
    }
}

/// Passes on what waits in a socket, with its descriptors.
async fn forward(from: &UnixStream, to: &UnixStream) {
    let from = from.try_clone().expect("a duplicate");
    from.set_nonblocking(true).expect("it is set");
    let from = tokio::net::UnixStream::from_std(from).expect("a socket");
    let mut bytes = [0; 64];
    let received = deadline(aqueduct::unix::recv_with_fds(&from, &mut bytes, 8)).await;
    let (n, fds): (usize, Vec<OwnedFd>) = received.expect("a hello");
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    send(to, &bytes[..n], &raw).expect("it is sent");
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_never_comes_is_an_error_in_time() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let wire = hello(1, MEMORY, GOOD);
    for len in 0..wire.len() {
        let (memory, (theirs, _ours)) = (good_memory(), bell());
        let silent = UnixStream::connect(&path).expect("it connects");
        if len > 0 {
            let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
            send(&silent, &wire[..len], &fds).expect("it is sent");
        }
        let server = accept(&mut listener).await;
        let next = server.into_receiver().next().await;
        let error = next.expect("an error and no end").expect_err("an error");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let limit = Duration::from_secs(5);
        assert_eq!(
            PeerError::of(&error),
            Some(&PeerError::Silent(limit)),
            "{len}"
        );
    }
}

/// As one that is stopped within its hello: each step, all at once, while others are served.
#[tokio::test]
async fn clients_that_stop_within_their_hello_delay_nobody() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let wire = hello(1, MEMORY, GOOD);
    let mut stopped = Vec::new();
    for len in 0..wire.len() {
        let (memory, (theirs, ours)) = (good_memory(), bell());
        let socket = UnixStream::connect(&path).expect("it connects");
        if len > 0 {
            let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
            send(&socket, &wire[..len], &fds).expect("it is sent");
        }
        let mut stream = accept(&mut listener).await.into_receiver();
        let mut next = tokio_test::task::spawn(async move { stream.next().await });
        assert!(next.poll().is_pending(), "{len}");
        stopped.push((socket, ours, next));
    }
    serves(&address, &mut listener).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_hello_leaks_nothing() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let wire = hello(1, MEMORY, GOOD);
    for len in 0..=wire.len() {
        let (memory, (theirs, ours)) = (good_memory(), bell());
        let socket = UnixStream::connect(&path).expect("it connects");
        if len > 0 {
            let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
            send(&socket, &wire[..len], &fds).expect("it is sent");
        }
        drop((socket, memory, theirs, ours));
        let mut stream = accept(&mut listener).await.into_receiver();
        let next = deadline(stream.next()).await;
        let ended = len == 0 || len == wire.len();
        assert_eq!(next.is_none(), ended, "{len}: {next:?}");
    }
    serves(&address, &mut listener).await;
}

#[tokio::test]
async fn a_hello_may_arrive_byte_by_byte() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let socket = UnixStream::connect(&path).expect("it connects");
    let mut stream = accept(&mut listener).await.into_receiver();
    let mut next = tokio_test::task::spawn(async move { stream.next().await });
    let (memory, (theirs, _ours)) = (good_memory(), bell());
    let wire = hello(1, MEMORY, GOOD);
    for (i, byte) in wire.iter().enumerate() {
        assert!(next.poll().is_pending());
        let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
        let fds = if i == 0 { &fds[..] } else { &[] };
        send(&socket, &[*byte], fds).expect("it is sent");
    }
    super::raw::set(&memory, super::raw::FIN, 1);
    assert!(deadline(next).await.is_none());
}

/// The usual mistake: one side has `unix:` in its configuration.
/// Its server cannot say hello, which is no reason to keep it waiting.
#[tokio::test]
async fn a_client_that_receives_nothing_more_is_not_kept_waiting() {
    let (_dir, path, address) = place("?fallback=true");
    let mut listener = address.bind().await.expect("it is bound");
    let raw = Raw::connect(&path);
    let shut = raw.socket.shutdown(std::net::Shutdown::Read);
    shut.expect("it is shut");
    let mut server = accept(&mut listener).await.into_receiver();
    let mut next = tokio_test::task::spawn(server.next());
    assert!(next.poll().is_pending());
    let mut polled = [nix::poll::PollFd::new(
        raw.socket.as_fd(),
        nix::poll::PollFlags::empty(),
    )];
    let hung_up = nix::poll::poll(&mut polled, 30_000_u16);
    assert_eq!(hung_up, Ok(1), "both directions have ended");
    drop(raw);
    assert!(deadline(next).await.is_none());
}

#[tokio::test]
async fn a_unix_client_of_a_shm_server_is_named_and_sees_the_end() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let mut client = aqueduct::unix::connect(&path).await.expect("it connects");
    client.write_all(b"hello\n").await.expect("it is sent");
    let error = refusal(accept(&mut listener).await).await;
    assert_eq!(error, PeerError::Magic);
    assert!(error.to_string().contains("use unix:"), "{error}");
    let mut answer = Vec::new();
    let _ = deadline(client.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_shm_client_of_a_unix_server_is_told_with_the_first_answer() {
    let (_dir, path, address) = place("");
    let listener = aqueduct::unix::bind(&path).expect("it is bound");
    let client = address.connect().await.expect("it connects");
    let (mut server, _) = deadline(listener.accept()).await.expect("it came");
    server.write_all(b"welcome\n").await.expect("it is sent");
    assert_eq!(refusal(client).await, PeerError::Magic);
}

/// A server that refuses a connection without having looked at it.
#[tokio::test]
async fn a_server_that_drops_a_client_at_once_is_its_end() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let (mut sink, mut stream) = address.connect().await.expect("it connects").into_frames();
    drop(accept(&mut listener).await);
    assert!(deadline(stream.next()).await.is_none());
    let error = deadline(sink.send(Bytes::from("x")))
        .await
        .expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);

    // With something written it is lost, and that is an error.
    let (mut sink, mut stream) = address.connect().await.expect("it connects").into_frames();
    sink.send(Bytes::from("lost")).await.expect("it is sent");
    drop(accept(&mut listener).await);
    let error = deadline(stream.next())
        .await
        .expect("no end")
        .expect_err("an error");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Each side may only write its own memory.
#[tokio::test]
async fn a_peer_cannot_change_or_shorten_this_sides_memory() {
    use std::os::unix::fs::FileExt;
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let mut raw = Raw::connect(&path);
    let mut stream = accept(&mut listener).await.into_receiver();
    let mut next = tokio_test::task::spawn(async move { stream.next().await });
    assert!(next.poll().is_pending());
    let (memory, _) = raw.receive().await;
    let refused = |result: std::io::Result<()>| {
        let error = result.expect_err("it is sealed");
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::PermissionDenied,
            "{error}"
        );
    };
    refused(memory.write_all_at(b"x", 0x80));
    refused(memory.set_len(0));
    refused(memory.set_len(1 << 30));
    let name = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let again = File::options()
        .read(true)
        .write(true)
        .open(name)
        .expect("it opens");
    refused(again.write_all_at(b"x", 0x80));
}

/// A request to a server of another protocol gets no hello and no reply.
#[tokio::test(start_paused = true)]
async fn a_client_logs_that_it_waits_for_a_hello() {
    let (_dir, path, address) = place("");
    let _other = UnixListener::bind(&path).expect("it is bound");
    let (log, _recording) = Log::start();
    let mut client = address
        .connect()
        .await
        .expect("it connects")
        .into_frames()
        .1;
    let waiting = tokio::time::timeout(Duration::from_secs(20), client.next()).await;
    assert!(waiting.is_err(), "there is no limit");
    let told = log.text();
    let warned = told.lines().filter(|it| it.contains("does not speak shm:"));
    assert_eq!(warned.count(), 1, "{told}");
}
