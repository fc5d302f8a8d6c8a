//! What becomes of messages that were sent when their receiver stops.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::connect::{MessageReceiver, Options};
use aqueduct::frame::Framing;
use aqueduct::unix::seqpacket;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, assert_ready};

use super::{dir, options};
use crate::support::deadline;

async fn rest(mut incoming: MessageReceiver) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(message) = deadline(incoming.next()).await {
        let body = message.expect("it is whole").into_body();
        rest.push(String::from_utf8(body.to_vec()).expect("it is text"));
    }
    rest
}

async fn next(incoming: &mut MessageReceiver) -> String {
    let message = deadline(incoming.next()).await.expect("it goes on");
    let body = message.expect("it is whole").into_body();
    String::from_utf8(body.to_vec()).expect("it is text")
}

fn path_of(address: &Endpoint) -> String {
    address.to_string().split_once(':').unwrap().1.to_owned()
}

/// Its sender learns what that was.
#[tokio::test]
async fn a_stopped_unix_socket_delivers_all_that_the_kernel_took() {
    for framing in [Framing::lines(), Framing::nul(), Framing::length()] {
        let dir = dir();
        let address: Endpoint = format!("unix:{}", dir.path().join("x").display())
            .parse()
            .unwrap();
        let mut incoming = options(framing.clone())
            .open_receiver(&address)
            .await
            .unwrap();
        let mut sender = UnixStream::connect(path_of(&address)).unwrap();
        let mut frame = bytes::BytesMut::new();
        let body = bytes::Bytes::from("x".repeat(99));
        tokio_util::codec::Encoder::encode(&mut framing.clone(), body, &mut frame).unwrap();
        sender.write_all(&frame).unwrap();
        assert_eq!(next(&mut incoming).await.len(), 99);
        // More than the buffer takes, cut wherever it is full.
        sender.set_nonblocking(true).unwrap();
        let mut taken = 0;
        let many = frame.repeat(100_000);
        loop {
            match sender.write(&many[taken..]) {
                Ok(n) => taken += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        incoming.stop();
        // Whatever room there is now.
        for _ in 0..3 {
            let error = sender.write(&many[taken..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        let whole = taken / frame.len();
        assert!(whole > 1);
        assert_eq!(rest(incoming).await.len(), whole);
    }
}

/// Those that come later are refused.
#[tokio::test]
async fn clients_waiting_at_a_stopped_unix_socket_are_heard() {
    let dir = dir();
    let address: Endpoint = format!("unix:{}", dir.path().join("x").display())
        .parse()
        .unwrap();
    let mut incoming = options(Framing::lines())
        .open_receiver(&address)
        .await
        .unwrap();
    assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
    let connect = || UnixStream::connect(path_of(&address));
    let mut waiting: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
    for sender in &mut waiting {
        sender.write_all(b"one\ntwo\nthr").unwrap();
    }
    // One that has ended by itself: a last line without its end is no message.
    let mut ended = connect().unwrap();
    ended.write_all(b"three\nfour").unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    incoming.stop();
    let error = connect().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let mut all = rest(incoming).await;
    all.sort();
    assert_eq!(all, ["one", "one", "one", "three", "two", "two", "two"]);
    assert!(!std::fs::exists(path_of(&address)).unwrap());
}

#[tokio::test]
async fn a_packet_socket_delivers_all_that_the_kernel_took() {
    let dir = dir();
    let address: Endpoint = format!("unixpacket:{}", dir.path().join("x").display())
        .parse()
        .unwrap();
    let mut incoming = Options::new().open_receiver(&address).await.unwrap();
    let sender = aqueduct::unix::ConnectOptions::new()
        .connect_seqpacket(path_of(&address))
        .await
        .unwrap();
    sender.send(b"first").await.unwrap();
    assert_eq!(next(&mut incoming).await, "first");
    let mut taken = 0;
    while sender.try_send(b"more").is_ok() {
        taken += 1;
    }
    incoming.stop();
    let error = sender.try_send(b"late").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    assert!(taken > 1);
    assert_eq!(rest(incoming).await.len(), taken);
    drop::<seqpacket::Socket>(sender);
}

/// Those that come later are refused.
#[tokio::test]
async fn clients_waiting_at_a_stopped_packet_socket_are_heard() {
    let dir = dir();
    let address: Endpoint = format!("unixpacket:{}", dir.path().join("x").display())
        .parse()
        .unwrap();
    let mut incoming = Options::new().open_receiver(&address).await.unwrap();
    assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let sender = aqueduct::unix::ConnectOptions::new()
            .connect_seqpacket(path_of(&address))
            .await
            .unwrap();
        for message in ["one", "two"] {
            sender.send(message.as_bytes()).await.unwrap();
        }
        waiting.push(sender);
    }
    incoming.stop();
    let error = aqueduct::unix::ConnectOptions::new()
        .connect_seqpacket(path_of(&address))
        .await
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    let mut all = rest(incoming).await;
    all.sort();
    assert_eq!(all, ["one", "one", "one", "two", "two", "two"]);
}

#[tokio::test]
async fn a_tcp_peer_is_told_to_end_and_heard_until_it_does() {
    let address: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
    let options = options(Framing::lines());
    let listener = options.bind(&address).await.unwrap();
    let address = listener.local_endpoint().to_string();
    let address = address.trim_start_matches("tcp://").to_owned();
    let mut incoming = listener.into_receiver();
    let connect = || tokio::net::TcpStream::connect(&address);
    let mut sender = deadline(connect()).await.unwrap();
    sender.write_all(b"one\n").await.unwrap();
    assert_eq!(next(&mut incoming).await, "one");
    // Connected, and not accepted yet.
    let mut waiting = deadline(connect()).await.unwrap();
    waiting.write_all(b"waiting\n").await.unwrap();
    incoming.stop();
    let receive = tokio::spawn(rest(incoming));
    for stream in [&mut sender, &mut waiting] {
        assert_eq!(deadline(stream.read(&mut [0])).await.unwrap(), 0);
        stream.write_all(b"two\nthree\nfour").await.unwrap();
        stream.shutdown().await.unwrap();
    }
    let mut all = deadline(receive).await.unwrap();
    all.sort();
    assert_eq!(all, ["three", "three", "two", "two", "waiting"]);
}

#[tokio::test]
async fn a_stopped_fifo_is_left_to_the_next_reader() {
    for (persist, micros) in [("", 0), ("?persist=true", 0), ("", 50)] {
        let dir = dir();
        let path = dir.path().join("x");
        let address: Endpoint = format!("fifo:{}{persist}", path.display()).parse().unwrap();
        let mut options = options(Framing::length());
        options.poll_for(Duration::from_micros(micros));
        let mut incoming = options.open_receiver(&address).await.unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        let frames = b"\0\0\0\x01a\0\0\0\x01b\0\0\0\x03c";
        writer.write_all(frames).unwrap();
        assert_eq!(next(&mut incoming).await, "a");
        incoming.stop();
        assert_eq!(next(&mut incoming).await, "b");
        assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
        writer.write_all(b"cc\0\0\0\x01d").unwrap();
        assert_eq!(next(&mut incoming).await, "ccc");
        let mut task = tokio_test::task::spawn(incoming.next());
        assert!(assert_ready!(task.poll()).is_none());
        drop(task);
        let mut left = File::open(&path).unwrap();
        drop((incoming, writer));
        let mut rest = Vec::new();
        left.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\0\0\0\x01d", "{persist}");
    }
}

#[tokio::test]
async fn a_fifo_whose_last_writer_has_gone_is_read_to_its_end() {
    for persist in ["", "?persist=true"] {
        let dir = dir();
        let path = dir.path().join("x");
        let address: Endpoint = format!("fifo:{}{persist}", path.display()).parse().unwrap();
        let options = options(Framing::lines());
        let mut incoming = options.open_receiver(&address).await.unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        let lines: String = (0..5000).map(|i| format!("{i}\n")).collect();
        writer.write_all(lines.as_bytes()).unwrap();
        assert_eq!(next(&mut incoming).await, "0");
        drop(writer);
        incoming.stop();
        assert_eq!(rest(incoming).await.len(), 4999, "{persist}");
    }
}
