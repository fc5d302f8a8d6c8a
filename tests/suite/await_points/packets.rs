use aqueduct::unix::seqpacket::{self, Socket};
use aqueduct_conformance::every_point;

use super::null;

/// Two seqpacket sockets, and how many messages were sent by the other side.
fn pair() -> (Socket, (Socket, usize)) {
    let (here, there) = seqpacket::pair().expect("a pair");
    (here, (there, 0))
}

async fn send_once((socket, sent): &mut (Socket, usize)) {
    if *sent == 0 {
        let sent_now = socket.send_with_fds(b"one", &[null()]).await;
        sent_now.expect("it is sent");
        *sent = 1;
    }
}

async fn send_plain_once((socket, sent): &mut (Socket, usize)) {
    if *sent == 0 {
        socket.send(b"one").await.expect("it is sent");
        *sent = 1;
    }
}

/// What was not received is still there, once, with its descriptors.
async fn still_there(here: &Socket, there: (Socket, usize), taken: usize, fds: usize) {
    let sent = there.1;
    drop(there);
    let mut left = 0;
    while let Some(message) = here.recv_with_fds(1).await.expect("it is read") {
        assert_eq!((&message.0[..], message.1.len()), (&b"one"[..], fds));
        left += 1;
    }
    assert_eq!(taken + left, sent);
}

#[tokio::test]
async fn seqpacket_sockets() {
    every_point(
        "unix::seqpacket::Socket::recv_with_fds",
        async || pair(),
        async |socket: &mut Socket| socket.recv_with_fds(1).await,
        send_once,
        async |here, there, output| {
            let taken = usize::from(output.is_some());
            if let Some(message) = output {
                let message = message.expect("it is read").expect("no end");
                assert_eq!((&message.0[..], message.1.len()), (&b"one"[..], 1));
            }
            still_there(&here, there, taken, 1).await;
        },
    )
    .await;
    every_point(
        "unix::seqpacket::Socket::recv",
        async || pair(),
        async |socket: &mut Socket| socket.recv().await,
        send_plain_once,
        async |here, there, output| {
            let taken = usize::from(output.is_some());
            if let Some(message) = output {
                assert_eq!(message.expect("it is read").expect("no end"), "one");
            }
            still_there(&here, there, taken, 0).await;
        },
    )
    .await;
    let full = async || {
        let (here, there) = seqpacket::pair().expect("a pair");
        let mut filled = 0;
        while here.try_send(&[0; 1000]).is_ok() {
            filled += 1;
        }
        (here, (there, filled))
    };
    every_point(
        "unix::seqpacket::Socket::send_with_fds",
        full,
        async |socket: &mut Socket| socket.send_with_fds(b"item", &[null()]).await,
        async |(socket, filled)| {
            if *filled > 0 {
                socket.recv().await.expect("it is full");
                *filled -= 1;
            }
        },
        async |here, (there, filled), output| {
            let mut expected = 0;
            if let Some(done) = output {
                done.expect("it is sent");
                expected = 1;
            }
            drop(here);
            let (mut rest, mut items) = (0, 0);
            while let Some(message) = there.recv_with_fds(1).await.expect("it is read") {
                if message.0 == "item" {
                    assert_eq!(message.1.len(), 1);
                    items += 1;
                } else {
                    rest += 1;
                }
            }
            assert_eq!((rest, items), (filled, expected));
        },
    )
    .await;
}
