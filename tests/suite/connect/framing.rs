//! `frame=` in an address, and framings of the options.

use std::os::unix::net::UnixStream;

use aqueduct::OpenErrorKind;
use aqueduct::connect::Options;
use aqueduct::frame::Framing;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{dir, options};
use crate::conformance::links::endpoint;
use crate::support::deadline;

#[tokio::test]
async fn an_address_says_how_its_bytes_are_cut() {
    let dir = dir();
    let address = endpoint(format!(
        "unix:{}?frame=netstring",
        dir.path().join("s").display()
    ));
    let mut listener = address.bind().await.unwrap();
    assert_eq!(listener.local_endpoint(), &address);
    let mut client = tokio::net::UnixStream::connect(dir.path().join("s"))
        .await
        .unwrap();
    client.write_all(b"2:hi,").await.unwrap();
    let server = deadline(listener.accept()).await.unwrap().unwrap();
    let (mut outgoing, mut incoming) = server.into_split();
    assert_eq!(
        deadline(incoming.next()).await.unwrap().unwrap().body(),
        "hi"
    );
    deadline(outgoing.send("you".into())).await.unwrap();
    let mut answer = [0; 6];
    deadline(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"3:you,");
}

#[tokio::test]
async fn the_port_that_was_bound_has_the_framing_of_its_address() {
    let listener = endpoint("tcp://127.0.0.1:0?frame=u8".to_owned())
        .bind()
        .await
        .unwrap();
    let local = listener.local_endpoint();
    assert_eq!(local.framing(), Some(&"u8".parse().unwrap()));
    assert!(local.to_string().ends_with("?frame=u8"), "{local}");
}

#[tokio::test]
async fn options_that_differ_from_the_address_are_refused() {
    let address = endpoint("exec:cat?frame=lines".to_owned());
    for set in [Framing::length(), Framing::crlf(), Framing::raw()] {
        let options = options(set);
        let errors = [
            deadline(options.connect(&address)).await.err(),
            deadline(options.bind(&address)).await.err(),
            deadline(options.open_sender(&address)).await.err(),
            deadline(options.open_receiver(&address)).await.err(),
        ];
        for error in errors {
            let error = error.expect("they differ");
            assert_eq!(error.kind(), &OpenErrorKind::InvalidOption);
            let said = error.to_string();
            assert!(
                said.contains("its frame=lines differs from the framing"),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_limit_goes_with_the_framing_of_the_address() {
    let address = endpoint("exec:cat?frame=lines".to_owned());
    let limited = options(Framing::lines().max_frame(3));
    let mut sender = deadline(limited.connect(&address))
        .await
        .unwrap()
        .into_sender();
    deadline(sender.send("four".into()))
        .await
        .expect_err("it is over the limit");
    deadline(sender.send("one".into())).await.unwrap();
    deadline(sender.close()).await.unwrap();
}

#[tokio::test]
async fn a_descriptor_that_keeps_boundaries_takes_no_frame() {
    let (packets, _peer) = aqueduct::unix::seqpacket::pair().unwrap();
    let fd = std::os::fd::AsFd::as_fd(&packets)
        .try_clone_to_owned()
        .unwrap();
    let address = aqueduct::inherited::offer(fd).unwrap();
    let framed = endpoint(format!("{address}?frame=lines"));
    let error = Options::new().connect(&framed).await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InvalidOption);
    // It was not taken by that.
    drop(Options::new().connect(&address).await.unwrap());

    let (stream, peer) = UnixStream::pair().unwrap();
    let address = aqueduct::inherited::offer(stream).unwrap();
    let framed = endpoint(format!("{address}?frame=cobs"));
    let mut sender = framed.open_sender().await.unwrap();
    deadline(sender.send("hi".into())).await.unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut peer = tokio::net::UnixStream::from_std(peer).unwrap();
    let mut wire = [0; 4];
    deadline(peer.read_exact(&mut wire)).await.unwrap();
    assert_eq!(&wire, b"\x03hi\0");
}
