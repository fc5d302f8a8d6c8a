//! Peers that are killed at each step of the hello, and of the first message.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};

use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::connect::Connection;
use futures_util::{SinkExt, StreamExt};
use tokio_test::task;

use super::raw::{DATA, HEAD, MEMORY, bell, good_memory, hello, send, set};
use super::{accept, place, serves};
use crate::actor::{Actor, say, told};
use crate::support::{alone, deadline, is_peer};

/// What is seen of a peer that did not go further.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    End,
    Reset,
    CutOff,
    MessageAndEnd,
}

use Seen::{CutOff, End, MessageAndEnd, Reset};

/// The steps of a client, and what the server sees if each is the last one.
const CLIENT: [(&str, Seen); 5] = [
    ("connect", End),
    ("half", CutOff),
    ("hello", End),
    ("part", CutOff),
    ("whole", MessageAndEnd),
];

/// The steps of a server, and what the client sees. A hello that nobody has received resets the socket.
const SERVER: [(&str, Seen); 7] = [
    ("bind", Reset),
    ("accept", Reset),
    ("take", End),
    ("half", CutOff),
    ("hello", End),
    ("part", CutOff),
    ("whole", MessageAndEnd),
];

const ROLE: &str = "shm::killed::role_peer";

/// Takes the steps that it is told, at the path that it is told first.
#[test]
fn role_peer() {
    if !is_peer(ROLE) {
        return;
    }
    let path = told().expect("a path");
    let (memory, (theirs, ours)) = (good_memory(), bell());
    let (mut socket, mut listener) = (None, None);
    let hello = hello(1, MEMORY, 1 << 20);
    while let Some(step) = told() {
        let peer = || socket.as_ref().expect("it is connected");
        match &*step {
            "connect" => socket = UnixStream::connect(&path).ok(),
            "bind" => listener = UnixListener::bind(&path).ok(),
            "accept" => {
                let listener = listener.as_ref().expect("it is bound");
                socket = listener.accept().ok().map(|it| it.0);
            }
            "take" => {
                let mut bytes = [0; 32];
                peer().read_exact(&mut bytes).expect("a hello");
            }
            "half" => {
                let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
                send(peer(), &hello[..16], &fds).expect("it is sent");
            }
            "hello" => send(peer(), &hello[16..], &[]).expect("it is sent"),
            "part" => {
                let written = memory.write_all_at(b"\0\0\0\x05hello", DATA);
                written.expect("it is written");
                set(&memory, HEAD, 7);
            }
            "whole" => set(&memory, HEAD, 9),
            other => panic!("{other:?} is no step"),
        }
        say(&step);
    }
    drop(ours);
}

async fn steps(actor: &mut Actor, steps: &[(&str, Seen)]) {
    for (step, _) in steps {
        actor.tell(step);
        assert_eq!(actor.hear().await, *step);
    }
}

/// What comes of a connection whose peer is killed now; it may wait already.
async fn kill_and_look(mut actor: Actor, connection: Connection, waits: bool) -> Seen {
    let (mut sink, mut stream) = connection.into_frames();
    let mut next = task::spawn(stream.next());
    let mut first = None;
    if waits && let std::task::Poll::Ready(item) = next.poll() {
        first = Some(item);
    }
    actor.kill().await;
    let item = match first {
        Some(item) => item,
        None => deadline(next).await,
    };
    let seen = match item {
        None => End,
        Some(Ok(frame)) => {
            assert_eq!(frame, "hello");
            assert!(deadline(stream.next()).await.is_none());
            MessageAndEnd
        }
        Some(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => CutOff,
        Some(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionReset => Reset,
        Some(Err(other)) => panic!("{other:?}"),
    };
    // Nobody reads: a writer learns that, at the latest once the ring is full.
    let write = async { while sink.send(Bytes::from(vec![0; 60_000])).await.is_ok() {} };
    deadline(write).await;
    seen
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn a_client_killed_at_each_step_is_an_end_or_an_error() {
    const TEST: &str = "shm::killed::a_client_killed_at_each_step_is_an_end_or_an_error";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, path, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            serves(&address, &mut listener).await;
            let before = open_files();
            for (last, (step, expected)) in CLIENT.iter().enumerate() {
                for waits in [true, false] {
                    let mut actor = Actor::spawn(ROLE);
                    actor.tell(path.to_str().expect("text"));
                    steps(&mut actor, &CLIENT[..=last]).await;
                    let server = accept(&mut listener).await;
                    let seen = kill_and_look(actor, server, waits).await;
                    assert_eq!(seen, *expected, "{step}, {waits}");
                    serves(&address, &mut listener).await;
                }
            }
            assert_eq!(open_files(), before);
        });
    });
}

#[test]
fn a_server_killed_at_each_step_is_an_end_or_an_error() {
    const TEST: &str = "shm::killed::a_server_killed_at_each_step_is_an_end_or_an_error";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let before = open_files();
            for (last, (step, expected)) in SERVER.iter().enumerate() {
                for waits in [true, false] {
                    let (_dir, path, address): (_, _, Endpoint) = place("");
                    let mut actor = Actor::spawn(ROLE);
                    actor.tell(path.to_str().expect("text"));
                    steps(&mut actor, &SERVER[..1]).await;
                    let client = address.connect().await.expect("it connects");
                    steps(&mut actor, &SERVER[1..=last]).await;
                    let seen = kill_and_look(actor, client, waits).await;
                    assert_eq!(seen, *expected, "{step}, {waits}");
                }
            }
            assert_eq!(open_files(), before);
        });
    });
}
