use std::collections::VecDeque;
use std::io;

use aqueduct::Endpoint;
use aqueduct::connect::Connection;
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;

use super::{Open, config, done, dropped, killed, waits};
use crate::support::alone;

/// As much as waits to be received at a time: it has to fit the smallest buffer.
const ROOM: usize = 20_000;

#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
}

#[derive(Clone, Debug)]
enum Op {
    Send(Side, usize),
    Receive(Side),
    DropReceive(Side),
    /// Ends the sending direction.
    Close(Side),
    /// Drops the whole end.
    Drop(Side),
    /// A new connection in place of the old one.
    Reconnect,
    /// One with a process that sends so many messages and is killed.
    KilledClient(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let side = || prop_oneof![Just(Side::Client), Just(Side::Server)];
    prop_oneof![
        8 => (side(), 1..3000_usize).prop_map(|(side, len)| Op::Send(side, len)),
        8 => side().prop_map(Op::Receive),
        4 => side().prop_map(Op::DropReceive),
        1 => side().prop_map(Op::Close),
        1 => side().prop_map(Op::Drop),
        2 => Just(Op::Reconnect),
        1 => (0..4_usize).prop_map(Op::KilledClient),
    ]
}

#[test]
fn a_stream_socket_is_two_lists() {
    alone("model::socket::a_stream_socket_is_two_lists", || {
        compare("unix");
    });
}

#[test]
fn a_seqpacket_socket_is_two_lists() {
    alone("model::socket::a_seqpacket_socket_is_two_lists", || {
        compare("unixpacket");
    });
}

fn compare(scheme: &str) {
    let ops = proptest::collection::vec(op(), 1..80);
    proptest!(config(), |(ops in ops)| {
        aqueduct_conformance::run(play(scheme, ops));
    });
}

/// One end, and what it should be.
struct End {
    real: Option<(BoxFrameSink, BoxFrameStream)>,
    /// What it has not yet received.
    inbox: VecDeque<Bytes>,
    /// Whether its sending direction goes on.
    sends: bool,
    /// Whether its stream has ended.
    ended: bool,
    /// Whether the other end can have gone with messages unread: then an error comes in place of
    /// the end.
    reset: bool,
}

impl End {
    fn new(connection: Option<Connection>) -> Self {
        let open = connection.is_some();
        Self {
            real: connection.map(Connection::into_frames),
            inbox: VecDeque::new(),
            sends: open,
            ended: false,
            reset: false,
        }
    }

    fn is_full(&self) -> bool {
        self.inbox.iter().map(|it| it.len() + 64).sum::<usize>() > ROOM
    }

    /// Checks an item against what should come.
    fn came(&mut self, item: Option<io::Result<Bytes>>, other: &Self) {
        match item {
            Some(Ok(message)) => assert_eq!(Some(message), self.inbox.pop_front()),
            Some(Err(error)) => {
                assert!(self.reset && self.inbox.is_empty(), "{error:?}");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                self.ended = true;
            }
            None => {
                assert!(self.inbox.is_empty(), "{:?} did not come", self.inbox);
                assert!(self.ended || !other.sends, "it ends while the other sends");
                self.ended = true;
            }
        }
    }
}

fn broken(sent: io::Result<()>) {
    let error = sent.expect_err("nobody is there");
    let expected = [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
    ];
    assert!(expected.contains(&error.kind()), "{error:?}");
}

async fn play(scheme: &str, ops: Vec<Op>) {
    let dir = tempfile::tempdir().expect("a directory");
    let at = format!("{scheme}:{}/socket", dir.path().display());
    let address: Endpoint = at.parse().expect("it is an address");
    let mut listener = address.bind().await.expect("it is bound");
    let mut accept = async || {
        let accepted = done(listener.accept()).await.expect("it has no end");
        accepted.expect("somebody came")
    };
    let (mut client, mut server) = (End::new(None), End::new(None));
    for (number, op) in ops.into_iter().enumerate() {
        let (Op::Send(side, _)
        | Op::Receive(side)
        | Op::DropReceive(side)
        | Op::Close(side)
        | Op::Drop(side)) = op
        else {
            // The old one goes first.
            drop((client, server));
            client = End::new(None);
            let mut messages = VecDeque::new();
            if let Op::KilledClient(count) = op {
                assert_eq!(killed(&format!("socket {count}"), &at), "sent");
                messages.extend((0..count).map(peers_message));
            } else {
                client = End::new(Some(done(address.connect()).await.expect("it listens")));
            }
            server = End::new(Some(accept().await));
            server.inbox = messages;
            continue;
        };
        let (end, other) = match side {
            Side::Client => (&mut client, &mut server),
            Side::Server => (&mut server, &mut client),
        };
        let Some((sink, stream)) = &mut end.real else {
            continue;
        };
        match op {
            Op::Send(_, len) if !other.is_full() => {
                let message: Bytes = vec![(number % 251) as u8; len].into();
                let sent = done(sink.send(message.clone())).await;
                if !end.sends || other.real.is_none() {
                    broken(sent);
                    end.sends = false;
                } else {
                    sent.expect("there is room");
                    other.inbox.push_back(message);
                }
            }
            Op::Receive(_) => {
                if end.inbox.is_empty() && other.sends && !end.ended {
                    waits(stream.next()).await;
                } else {
                    let item = done(stream.next()).await;
                    end.came(item, other);
                }
            }
            Op::DropReceive(_) => {
                if let Some(item) = dropped(stream.next()).await {
                    end.came(item, other);
                }
            }
            Op::Close(_) => {
                let closed = done(sink.close()).await;
                if let Err(error) = closed {
                    assert!(other.real.is_none(), "{error:?}");
                }
                end.sends = false;
            }
            Op::Drop(_) => {
                other.reset |= !end.inbox.is_empty();
                end.real = None;
                end.inbox.clear();
                end.sends = false;
            }
            _ => {}
        }
    }
}

fn peers_message(number: usize) -> Bytes {
    format!("message {number} of a process").into()
}

pub(super) async fn peer(count: &str, address: &str) -> (String, Open) {
    let address: Endpoint = address.parse().expect("it is an address");
    let connection = address.connect().await.expect("it listens");
    let (mut sink, stream) = connection.into_frames();
    for number in 0..count.parse().expect("a number") {
        sink.send(peers_message(number)).await.expect("it is sent");
    }
    ("sent".into(), Box::new((sink, stream)))
}
