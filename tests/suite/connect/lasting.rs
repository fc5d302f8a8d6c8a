//! Sending ends that outlive their peers: nothing lost, nothing doubled, over restarts.

mod closing;
mod restarts;

use std::io::ErrorKind;
use std::time::Duration;

use aqueduct::connect::{GaveUp, Message, MessageReceiver, MessageSender, Options, Reconnect};
use aqueduct::frame::{FrameError, Framing};
use aqueduct::{Endpoint, OpenError, OpenErrorKind};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future};
use tempfile::TempDir;

use super::{dir, options, unserved};
use crate::support::deadline;

/// More than the buffers of a Unix socket hold, some times over.
const MESSAGES: u64 = 60_000;
const RESTARTS: u64 = 20;
const LARGE: u64 = 3_000;

fn reconnecting(framing: Framing) -> Options {
    let mut options = options(framing);
    options.reconnect(Reconnect::new());
    options
}

/// All the kinds of address whose peers can come back.
fn addresses(dir: &TempDir) -> Vec<Endpoint> {
    let fifo = format!("fifo:{}", dir.path().join("fifo").display());
    let mut addresses = vec![fifo.parse().expect("it is one")];
    for scheme in super::SOCKETS {
        addresses.push(unserved(scheme, dir));
    }
    addresses
}

fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.body()).expect("it is text");
    text.trim_end_matches('.').parse().expect("it is a number")
}

/// The receiving end, made again where one was dropped.
///
/// A child that another test starts at that moment holds all descriptors between its `fork` and
/// its `exec`, and so the address a little longer.
async fn open_again(options: &Options, address: &Endpoint) -> MessageReceiver {
    let opened = async {
        loop {
            match options.open_receiver(address).await {
                Err(error) if error.kind() == &OpenErrorKind::InUse => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                opened => return opened.expect("it is opened"),
            }
        }
    };
    deadline(opened).await
}

async fn send_all(mut outgoing: MessageSender, messages: u64, size: u64) -> u64 {
    for i in 0..messages {
        // Of many sizes, so that buffers end inside of them.
        let message = format!("{i}{}", ".".repeat((i % size) as usize));
        let fed = outgoing.feed(Bytes::from(message).into()).await;
        fed.expect("it is taken");
        if i % 1000 == 999 {
            outgoing.flush().await.expect("it is sent");
        }
    }
    let broken = outgoing.broken_connections();
    match outgoing.close().await {
        Err(error) => assert!(outgoing.broken_connections() > broken, "{error}"),
        Ok(()) => assert_eq!(outgoing.broken_connections(), broken),
    }
    outgoing.broken_connections()
}

#[tokio::test]
async fn a_receiver_that_restarts_loses_and_doubles_nothing() {
    let dir = dir();
    for address in addresses(&dir) {
        let options = reconnecting(Framing::lines());
        let mut incoming = options.open_receiver(&address).await.expect("it is opened");
        let outgoing = deadline(options.open_sender(&address)).await;
        let sending = tokio::spawn(send_all(outgoing.expect("it is opened"), MESSAGES, 97));
        let mut seen = 0;
        let check = |message: std::io::Result<Message>, seen: &mut u64| {
            let message = message.expect("it is whole");
            assert_eq!(number(&message), *seen, "{address}");
            *seen += 1;
        };
        for restart in 1..=RESTARTS {
            // So many, and then it is told to stop, wherever that is.
            let enough = MESSAGES * restart / (RESTARTS + 2);
            while seen < enough {
                check(
                    deadline(incoming.next()).await.expect("more comes"),
                    &mut seen,
                );
            }
            incoming.stop();
            while let Some(message) = deadline(incoming.next()).await {
                check(message, &mut seen);
            }
            drop(incoming);
            incoming = open_again(&options, &address).await;
        }
        while seen < MESSAGES {
            check(
                deadline(incoming.next()).await.expect("more comes"),
                &mut seen,
            );
        }
        drop(incoming);
        assert_eq!(deadline(sending).await.expect("no panic"), 0, "{address}");
    }
}

/// None comes twice.
#[tokio::test]
async fn messages_that_a_killed_peer_had_not_read_are_reported() {
    let dir = dir();
    for scheme in ["unix", "unixpacket", "tcp"] {
        let address = unserved(scheme, &dir);
        let options = reconnecting(Framing::length());
        let mut incoming = options.open_receiver(&address).await.expect("it is opened");
        let outgoing = deadline(options.open_sender(&address)).await;
        let outgoing = outgoing.expect("it is opened");
        // Far more than buffers hold.
        let sending = tokio::spawn(send_all(outgoing, LARGE, 20_000));
        for i in 0..100 {
            let message = deadline(incoming.next()).await.expect("more comes");
            assert_eq!(number(&message.expect("it is whole")), i);
        }
        // As the system closes what a killed process had open.
        drop(incoming);
        let mut incoming = open_again(&options, &address).await;
        let mut last = 99;
        while last < LARGE - 1 {
            let message = deadline(incoming.next()).await.expect("more comes");
            let number = number(&message.expect("it is whole"));
            assert!(number > last, "{scheme}: {number} after {last}");
            last = number;
        }
        drop(incoming);
        assert!(deadline(sending).await.expect("no panic") > 0, "{scheme}");
    }
}

#[tokio::test]
async fn closing_waits_until_the_peer_has_read_all() {
    let dir = dir();
    for (scheme, micros) in [("unix", 0), ("unixpacket", 0), ("tcp", 0), ("tcp", 50)] {
        let address = unserved(scheme, &dir);
        let mut options = reconnecting(Framing::lines());
        options.poll_for(Duration::from_micros(micros));
        let mut incoming = options.open_receiver(&address).await.expect("it is opened");
        let mut outgoing = deadline(options.open_sender(&address))
            .await
            .expect("it is");
        for _ in 0..10 {
            outgoing.feed("hello".into()).await.expect("it is taken");
        }
        let closing = tokio::spawn(async move { outgoing.close().await });
        for _ in 0..10 {
            let message = deadline(incoming.next()).await.expect("it comes");
            assert_eq!(message.expect("it is whole").body(), "hello");
            assert!(!closing.is_finished(), "{scheme}");
        }
        // It has to look once more to see the end.
        let mut next = Box::pin(incoming.next());
        deadline(async {
            tokio::select! {
                closed = closing => closed.expect("no panic").expect("it closes"),
                _ = &mut next => panic!("nothing comes any more"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_lost_peer_is_waited_for_as_long_as_told() {
    let dir = dir();
    for address in addresses(&dir) {
        let mut options = reconnecting(Framing::lines());
        let mut incoming = options.open_receiver(&address).await.expect("it is opened");
        options.wait(Some(Duration::from_millis(50)));
        let mut outgoing = deadline(options.open_sender(&address))
            .await
            .expect("it is");
        outgoing.send("one".into()).await.expect("it is sent");
        deadline(incoming.next())
            .await
            .expect("it comes")
            .expect("whole");
        drop(incoming);
        let error = deadline(async {
            loop {
                if let Err(error) = outgoing.send("two".into()).await {
                    break error;
                }
            }
        });
        let error = error.await;
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{address}: {error}");
    }
}

#[tokio::test]
async fn a_bound_end_sends_to_one_client_after_another() {
    let dir = dir();
    for scheme in super::SOCKETS {
        let address = unserved(scheme, &dir);
        let options = options(Framing::lines());
        let listener = options.bind(&address).await.expect("it is bound");
        let mut outgoing = listener.into_sender(Some(Duration::from_millis(20)));
        let error = deadline(outgoing.send("nobody".into())).await.unwrap_err();
        let gave_up = GaveUp::of(&error).expect("it says so");
        let error = OpenError::of(&gave_up.source).expect("it says what was waited for");
        assert!(error.to_string().contains("no client appeared"), "{error}");
        for i in 0..3 {
            let client = deadline(options.connect(&address))
                .await
                .expect("it is connected");
            let mut client = client.into_receiver();
            let word = format!("{scheme} {i}");
            let send = async {
                // Until the one before has been missed.
                outgoing.send(Bytes::from(word.clone()).into()).await
            };
            deadline(send).await.expect("it is sent");
            let got = deadline(client.next())
                .await
                .expect("it comes")
                .expect("whole");
            assert_eq!(got.body(), word.as_bytes());
            drop(client);
        }
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_end_goes_on() {
    let dir = dir();
    let address = unserved("unix", &dir);
    let options = reconnecting(Framing::lines().max_frame(5));
    let mut incoming = options.open_receiver(&address).await.expect("it is opened");
    let mut outgoing = deadline(options.open_sender(&address))
        .await
        .expect("it is");
    let error = outgoing.send("too long".into()).await.unwrap_err();
    assert!(FrameError::of(&error).is_some(), "{error}");
    outgoing.send("fine".into()).await.expect("it is sent");
    let message = deadline(incoming.next()).await.expect("it comes");
    assert_eq!(message.expect("it is whole").body(), "fine");
}

/// Has a message taken that is too long, once the connection is seen to have ended.
async fn let_in_too_long(outgoing: &mut MessageSender) {
    // For a packet, too.
    let too_long = Bytes::from(vec![b'.'; 4 << 20]);
    let let_in = async {
        loop {
            outgoing.flush().await.expect("nothing is to be sent");
            // Refused at once as long as there is a connection.
            if outgoing.start_send_unpin(too_long.clone().into()).is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    deadline(let_in).await;
}

/// Whoever found room keeps it while it flushes, and the connection can end meanwhile.
#[tokio::test]
async fn a_message_let_in_between_two_connections_is_refused_alone() {
    let dir = dir();
    for scheme in ["unix", "unixpacket", "tcp"] {
        let address = unserved(scheme, &dir);
        let options = reconnecting(Framing::lines().max_frame(5));
        let incoming = options.open_receiver(&address).await.expect("it is opened");
        let outgoing = deadline(options.open_sender(&address)).await;
        let mut outgoing = outgoing.expect("it is opened");
        drop(incoming);
        let_in_too_long(&mut outgoing).await;
        for message in ["one", "two"] {
            let taken = outgoing.start_send_unpin(message.into());
            taken.expect("there is no connection that could refuse it");
        }
        let mut incoming = open_again(&options, &address).await;
        let error = deadline(outgoing.flush()).await.unwrap_err();
        let refused = FrameError::of(&error).is_some();
        assert!(refused, "{error}");
        let sent = deadline(outgoing.send("three".into())).await;
        sent.expect("it is sent");
        for message in ["one", "two", "three"] {
            let came = deadline(incoming.next()).await.expect("it comes");
            assert_eq!(came.expect("it is whole").body(), message, "{scheme}");
        }
        assert_eq!(outgoing.broken_connections(), 0);
    }
}

/// More than its buffers hold, and less than makes a sender wait.
#[tokio::test]
async fn packets_accepted_between_connections_arrive_once() {
    const PACKETS: u32 = 8000;
    let dir = dir();
    let address = unserved("unixpacket", &dir);
    let options = reconnecting(Framing::length());
    let incoming = options.open_receiver(&address).await.expect("it is opened");
    let outgoing = deadline(options.open_sender(&address)).await;
    let mut outgoing = outgoing.expect("it is opened");
    drop(incoming);
    let_in_too_long(&mut outgoing).await;
    let packet = |n: u32| Bytes::copy_from_slice(&n.to_le_bytes());
    for n in 0..PACKETS {
        let taken = outgoing.start_send_unpin(packet(n).into());
        taken.expect("there is no connection that could refuse it");
    }
    let mut incoming = open_again(&options, &address).await;
    let send = async {
        let error = outgoing.flush().await.unwrap_err();
        assert!(FrameError::of(&error).is_some(), "{error}");
        let sent = outgoing.send(packet(PACKETS).into()).await;
        sent.expect("it is sent");
    };
    let receive = async {
        let mut came = Vec::new();
        while came.len() <= PACKETS as usize {
            let message = incoming.next().await.expect("it comes");
            let body = message.expect("it is whole").into_body();
            came.push(u32::from_le_bytes(body[..].try_into().expect("four bytes")));
        }
        // Those of two connections may overtake each other.
        came.sort_unstable();
        came
    };
    let ((), came) = deadline(future::join(send, receive)).await;
    assert!(came.into_iter().eq(0..=PACKETS));
}

/// Such that a write takes a part of one, and more than one.
#[tokio::test]
async fn large_messages_reach_the_next_connection_whole_or_not() {
    const MESSAGES: u64 = 12;
    let body = |n: u64| Bytes::from(vec![n as u8; 300_000]);
    let dir = dir();
    for scheme in ["unix", "tcp"] {
        let address = unserved(scheme, &dir);
        let options = reconnecting(Framing::length());
        let mut incoming = options.open_receiver(&address).await.expect("it is opened");
        let outgoing = deadline(options.open_sender(&address)).await;
        let mut outgoing = outgoing.expect("it is opened");
        let sending = tokio::spawn(async move {
            for n in 0..MESSAGES {
                outgoing.feed(body(n).into()).await.expect("it is taken");
            }
            outgoing.close().await.expect("all was read");
            outgoing.broken_connections()
        });
        let (mut seen, mut taken) = (0, 0);
        while seen < MESSAGES {
            match deadline(incoming.next()).await {
                Some(message) => {
                    let message = message.expect("it is whole");
                    assert!(message.into_body() == body(seen), "{seen} over {scheme}");
                    (seen, taken) = (seen + 1, taken + 1);
                    // And what is on its way.
                    if taken == 2 {
                        incoming.stop();
                    }
                }
                None => {
                    taken = 0;
                    drop(incoming);
                    incoming = open_again(&options, &address).await;
                }
            }
        }
        drop(incoming);
        assert_eq!(deadline(sending).await.expect("no panic"), 0, "{scheme}");
    }
}
