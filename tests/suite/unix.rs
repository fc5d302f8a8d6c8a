//! Unix stream sockets: whose path it is, and who may connect.

mod contention;
mod mode;
mod path;
mod waiting;
mod watched;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::unix::{self, BindOptions, seqpacket};
use futures_util::StreamExt;
use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::assert_ready;

use crate::actor::{Actor, told};
use crate::support::{DEADLINE, deadline, is_peer};

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    (dir, path)
}

/// Waits until nobody has a socket of that address open. Closing one's own may not do: a process
/// that another test is just starting has a duplicate until it runs its program.
fn until_dead(address: impl AsRef<Path>) {
    let address = SockAddr::unix(address).expect("it fits");
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let probe = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
        match probe.connect(&address).map_err(|e| e.raw_os_error()) {
            Err(Some(libc::ECONNREFUSED)) => break,
            other => assert!(std::time::Instant::now() < end, "{other:?}"),
        }
        std::thread::yield_now();
    }
}

/// Leaves the socket of a server that is gone.
fn leave_stale(path: &Path) {
    drop(StdListener::bind(path).expect("the path is free"));
    until_dead(path);
}

fn lock_of(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).expect("it can be read");
    let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|it| name(it).to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn bytes_go_both_ways_and_nothing_stays_behind() {
    let (dir, path) = place();
    let mut listener = unix::bind(&path).expect("bound");
    let mut client = unix::connect(&path).await.expect("connected");
    let mut server = deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    client.write_all(b"ping").await.expect("written");
    server.write_all(b"pong").await.expect("written");
    let mut bytes = [0; 4];
    deadline(server.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"ping");
    deadline(client.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"pong");
    drop(listener);
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn a_path_of_107_bytes_is_the_longest() {
    let dir = tempfile::tempdir().expect("a directory");
    let name = |total: usize| {
        let name = "s".repeat(total - dir.path().as_os_str().len() - 1);
        dir.path().join(name)
    };
    let listener = unix::bind(name(107)).expect("it fits");
    unix::connect(name(107)).await.expect("it fits");
    drop(listener);
    for error in [
        unix::bind(name(108)).expect_err("too long"),
        unix::connect(name(108)).await.expect_err("too long"),
    ] {
        assert_eq!(error.kind(), &Kind::InvalidName, "{error}");
        for part in ["108 bytes", "107", "XDG_RUNTIME_DIR"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn the_wrong_type_of_socket_is_named() {
    let (_dir, path) = place();
    let stream = unix::bind(&path).expect("bound");
    let error = unix::ConnectOptions::new()
        .connect_seqpacket(&path)
        .await
        .expect_err("a stream");
    assert!(matches!(error.kind(), Kind::WrongType { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EPROTOTYPE));
    drop(stream);
    let _packets = BindOptions::new().bind_seqpacket(&path).expect("bound");
    let error = unix::connect(&path).await.expect_err("no stream");
    assert!(matches!(error.kind(), Kind::WrongType { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EPROTOTYPE));
}

#[tokio::test]
async fn an_abstract_name_needs_no_file_and_has_no_mode() {
    let name = format!(
        "@aqueduct-test-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let listener = unix::bind(&name).expect("bound");
    assert!(!Path::new(&name).exists());
    unix::connect(&name).await.expect("connected");
    let error = unix::bind(&name).expect_err("taken");
    assert_eq!(error.kind(), &Kind::InUse, "{error}");
    assert!(error.to_string().contains("@aqueduct-test"), "{error}");
    drop(listener);
    let error = unix::connect(&name)
        .await
        .expect_err("gone with its socket");
    assert_eq!(error.kind(), &Kind::Refused, "{error}");
    drop(BindOptions::new().bind_seqpacket(&name).expect("bound"));

    let error = BindOptions::new()
        .mode(0o600)
        .bind(&name)
        .expect_err("no file");
    assert_eq!(error.kind(), &Kind::InvalidOption, "{error}");
    let (_dir, path) = place();
    let error = BindOptions::new()
        .mode(0o1600)
        .bind(&path)
        .expect_err("no such mode");
    assert_eq!(error.kind(), &Kind::InvalidOption, "{error}");
    assert!(error.to_string().contains("not 1600"), "{error}");
    for empty in ["", "@"] {
        let error = unix::bind(empty).expect_err("no name");
        assert_eq!(error.kind(), &Kind::InvalidName, "{error}");
    }
}

#[tokio::test]
async fn the_peers_user_group_process_and_pidfd_are_known() {
    let (_dir, path) = place();
    let listener = unix::bind(&path).expect("bound");
    let mut actor = Actor::spawn("unix::role_client");
    actor.tell(path.to_str().expect("it is text"));
    let (server, _) = deadline(listener.accept()).await.expect("accepted");
    let peer = unix::peer_credentials(&server).expect("connected");
    let pid = actor.peer.0.id() as i32;
    assert_eq!(peer.pid, Some(pid));
    assert_eq!(peer.uid, Uid::effective().as_raw());
    assert_eq!(peer.gid, nix::unistd::getegid().as_raw());

    match unix::peer_pidfd(&server).expect("connected") {
        None => eprintln!("skipped in part: this kernel has no SO_PEERPIDFD"),
        Some(pidfd) => {
            let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
            let info = std::fs::read_to_string(info).expect("it is open");
            assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
            let flags = nix::fcntl::fcntl(&pidfd, nix::fcntl::FcntlArg::F_GETFD);
            assert_eq!(flags, Ok(libc::FD_CLOEXEC));
            let ended = || {
                use nix::poll::{PollFd, PollFlags, poll};
                let mut fds = [PollFd::new(
                    std::os::fd::AsFd::as_fd(&pidfd),
                    PollFlags::POLLIN,
                )];
                poll(&mut fds, 0_u8).expect("it can be polled") == 1
            };
            assert!(!ended());
            actor.peer.kill();
            assert!(ended());
        }
    }
    drop(actor);
    let unconnected = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    assert!(unix::peer_credentials(&unconnected).is_err());
    let file = std::fs::File::open("/dev/null").expect("every system has it");
    let error = unix::peer_credentials(&file).expect_err("no socket");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
}

#[test]
fn role_client() {
    if !is_peer("unix::role_client") {
        return;
    }
    let path = told().expect("a path");
    let _stream = StdStream::connect(path).expect("connected");
    told();
}

#[tokio::test]
async fn draining_before_closing_avoids_a_reset() {
    for drain in [false, true] {
        let (mut client, mut server) = tokio::net::UnixStream::pair().expect("a pair");
        client.write_all(b"unread").await.expect("written");
        server.write_all(b"reply").await.expect("written");
        let mut reply = Vec::new();
        if drain {
            let closing = tokio::spawn(unix::close(server, Duration::from_secs(20)));
            deadline(client.read_to_end(&mut reply))
                .await
                .expect("no reset");
            drop(client);
            let discarded = deadline(closing).await.expect("no panic");
            assert_eq!(discarded.expect("closed"), 6);
        } else {
            drop(server);
            let error = deadline(client.read_to_end(&mut reply))
                .await
                .expect_err("a reset");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
        assert_eq!(reply, b"reply");
    }
}

#[test]
fn without_a_runtime_opening_is_an_error_and_no_panic() {
    let (dir, path) = place();
    for result in [
        unix::bind(&path).map(drop),
        BindOptions::new().bind_seqpacket(&path).map(drop),
        assert_ready!(tokio_test::task::spawn(unix::connect(&path)).poll()).map(drop),
    ] {
        assert_eq!(result.expect_err("no runtime").kind(), &Kind::NoRuntime);
    }
    assert!(seqpacket::pair().is_err());
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn only_a_listening_descriptor_is_taken_over() {
    let (_dir, path) = place();
    let foreign = StdListener::bind(&path).expect("bound");
    let listener = unix::Listener::try_from(OwnedFd::from(foreign)).expect("it listens");
    unix::connect(&path).await.expect("connected");
    deadline(listener.accept()).await.expect("accepted");
    drop(listener);
    assert!(path.exists(), "the file is not ours");

    let (a, b) = StdStream::pair().expect("a pair");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for wrong in [a.into(), OwnedFd::from(tcp)] {
        let error = unix::Listener::try_from(wrong).expect_err("no Unix listener");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let error = seqpacket::Socket::try_from(OwnedFd::from(b)).expect_err("a stream");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn each_error_has_a_kind_that_its_io_error_keeps() {
    use io::ErrorKind;

    let (dir, path) = place();
    let bind = |address: &Path| unix::bind(address).expect_err("it is refused");
    let long = dir.path().join("x".repeat(200));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("made");
    let living = unix::bind(&path).expect("bound");
    let mut wide = BindOptions::new();
    let wide = wide
        .mode(0o1777)
        .bind(dir.path().join("wide"))
        .expect_err("no mode");
    let absent = dir.path().join("absent");
    let wait = Duration::from_millis(30);
    let mut short = unix::ConnectOptions::new();
    let late = deadline(short.wait(wait).connect(&absent))
        .await
        .expect_err("nobody comes");
    assert_eq!(late.kind(), &Kind::TimedOut { waited: wait });
    let found = "FIFO";
    assert_eq!(bind(&fifo).kind(), &Kind::WrongType { found });
    for (error, kind, number) in [
        (bind("".as_ref()), ErrorKind::InvalidInput, None),
        (bind(&long), ErrorKind::InvalidInput, None),
        (wide, ErrorKind::InvalidInput, None),
        (bind(&fifo), ErrorKind::InvalidInput, None),
        (bind(&path), ErrorKind::AddrInUse, None),
        (late, ErrorKind::TimedOut, Some(libc::ENOENT)),
    ] {
        let said = error.to_string();
        assert_eq!(error.raw_os_error(), number, "{said}");
        let error = io::Error::from(error);
        assert_eq!(error.kind(), kind, "{said}");
        assert_eq!(error.to_string(), said);
    }
    drop(living);
}
