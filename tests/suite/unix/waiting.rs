//! Waits: for a server, for room in its backlog, for descriptors; and waits that are dropped.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::unix::{self, BindOptions, ConnectOptions};
use futures_util::StreamExt;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio_test::assert_pending;

use super::{leave_stale, place};
use crate::actor::{self, Actor, runtime, say, told};
use crate::support::{deadline, is_peer};

#[tokio::test]
async fn a_full_backlog_is_waited_for() {
    let (_dir, path) = place();
    let listener = BindOptions::new().backlog(0).bind(&path).expect("bound");
    let first = StdStream::connect(&path).expect("there is room for one");
    let raw = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("a socket");
    let address = SockAddr::unix(&path).expect("it fits");
    let errno = raw
        .connect(&address)
        .expect_err("it is full")
        .raw_os_error();
    assert_eq!(errno, Some(libc::EAGAIN));

    let mut options = ConnectOptions::new();
    let short = options.wait(Duration::from_millis(50)).connect(&path).await;
    let error = short.expect_err("it stays full");
    assert!(matches!(error.kind(), Kind::TimedOut { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert!(error.to_string().contains("backlog"), "{error}");

    let mut connecting = tokio_test::task::spawn(unix::connect(&path));
    assert_pending!(connecting.poll());
    deadline(listener.accept()).await.expect("the first");
    deadline(connecting).await.expect("the second");
    drop(first);
}

#[tokio::test]
async fn connect_waits_for_a_path_that_appears_if_asked_to() {
    let (_dir, path) = place();
    let error = unix::connect(&path).await.expect_err("nothing there");
    assert_eq!(error.kind(), &Kind::NotFound, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));

    let mut options = ConnectOptions::new();
    options.wait(None);
    let mut connecting = tokio_test::task::spawn(options.connect(&path));
    assert_pending!(connecting.poll());
    leave_stale(&path);
    assert_pending!(connecting.poll());
    let listener = unix::bind(&path).expect("bound");
    deadline(connecting).await.expect("connected in the end");
    drop(listener);

    options.wait(Duration::from_millis(40));
    let error = options.connect(&path).await.expect_err("nothing there");
    assert!(matches!(error.kind(), Kind::TimedOut { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

#[tokio::test]
async fn without_descriptors_listeners_wait_and_take_no_core() {
    for kind in ["stream", "seqpacket"] {
        let (_dir, path) = place();
        let mut actor = Actor::spawn("unix::waiting::role_full");
        actor.tell(&format!("{kind} {}", path.display()));
        assert_eq!(actor.hear().await, "full");
        let kind = if kind == "stream" {
            Type::STREAM
        } else {
            Type::SEQPACKET
        };
        let client = Socket::new(Domain::UNIX, kind, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("it fits");
        client.connect(&address).expect("the backlog takes it");
        actor.tell("measure");
        let used: u64 = actor.hear().await.parse().expect("microseconds");
        assert!(used < 50_000, "{used} us of CPU in half a second");
        actor.tell("free");
        assert_eq!(actor.hear().await, "accepted");
        actor.succeed().await;
    }
}

#[test]
fn role_full() {
    if !is_peer("unix::waiting::role_full") {
        return;
    }
    let runtime = runtime();
    let guard = runtime.enter();
    let line = told().expect("what to do");
    let (kind, path) = line.split_once(' ').expect("two words");
    let mut bound = (None, None);
    if kind == "stream" {
        bound.0 = Some(unix::bind(path).expect("bound"));
    } else {
        bound.1 = Some(BindOptions::new().bind_seqpacket(path).expect("bound"));
    }
    drop(guard);
    let held = actor::take_all_descriptors();
    say("full");
    let (started, waiting) = std::sync::mpsc::channel();
    let accepted = runtime.spawn(async move {
        started.send(()).expect("the role waits");
        match &mut bound {
            (Some(stream), _) => drop(stream.next().await.expect("one more").expect("accepted")),
            (_, Some(packets)) => drop(packets.next().await.expect("one more").expect("accepted")),
            _ => unreachable!("one of them is bound"),
        }
        bound
    });
    waiting.recv().expect("it starts");
    actor::measure_then_free(held);
    let bound = runtime.block_on(accepted).expect("no panic");
    say("accepted");
    told();
    drop(bound);
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let (_dir, path) = place();
    let mut listener = unix::bind(&path).expect("bound");
    for round in 0..20_u8 {
        let mut accepting = tokio_test::task::spawn(listener.accept());
        assert_pending!(accepting.poll());
        let mut client = StdStream::connect(&path).expect("connected");
        io::Write::write_all(&mut client, &[round]).expect("written");
        drop(accepting);
        let (mut server, _) = deadline(listener.accept()).await.expect("accepted");
        assert_eq!(deadline(server.read_u8()).await.expect("read"), round);

        let mut next = tokio_test::task::spawn(listener.next());
        assert_pending!(next.poll());
        let mut client = StdStream::connect(&path).expect("connected");
        io::Write::write_all(&mut client, &[round]).expect("written");
        drop(next);
        let mut server = deadline(listener.next())
            .await
            .expect("one more")
            .expect("accepted");
        assert_eq!(deadline(server.read_u8()).await.expect("read"), round);
    }
}

#[tokio::test]
async fn a_dropped_connect_leaves_nothing_and_the_next_one_works() {
    let (_dir, path) = place();
    for polls in 1..4 {
        let mut options = ConnectOptions::new();
        let mut connecting = tokio_test::task::spawn(options.wait(None).connect(&path));
        for _ in 0..polls {
            assert_pending!(connecting.poll());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut listener = unix::bind(&path).expect("bound");
    let _client = unix::connect(&path).await.expect("connected");
    deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    assert_pending!(tokio_test::task::spawn(listener.next()).poll());
}
