//! `unixgram:`: the socket's file, a peer that has gone, a full buffer, the end.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use aqueduct::connect::{Connection, MessageReceiver, Options, Peer, Reconnect};
use aqueduct::{OpenErrorKind, unix};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::UnixDatagram;
use tokio_test::{assert_pending, assert_ready_ok, task};

use super::{abstract_one, dir, endpoint, in_dir, next};
use crate::support::{Log, deadline};

#[tokio::test]
async fn datagrams_are_messages_and_the_path_goes_with_its_socket() {
    let dir = dir();
    for address in [in_dir(&dir), abstract_one()] {
        let mut incoming = address.open_receiver().await.unwrap();
        let mut outgoing = address.open_sender().await.unwrap();
        for body in ["one", "", "two\nlines"] {
            deadline(outgoing.send(body.into())).await.unwrap();
            assert_eq!(next(&mut incoming).await.body(), body);
        }
        deadline(outgoing.close()).await.unwrap();
        assert!(incoming.next().now_or_never().is_none(), "it has no end");
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "neither the socket nor its lock is left");
}

#[tokio::test]
async fn the_mode_is_exact_and_a_stale_path_is_taken_over() {
    let dir = dir();
    let path = dir.path().join("g");
    drop(StdDatagram::bind(&path).unwrap());
    let address = endpoint(format!("unixgram:{}?mode=622", path.display()));
    let _incoming = address.open_receiver().await.unwrap();
    let made = std::fs::metadata(&path).unwrap();
    assert!(made.file_type().is_socket());
    assert_eq!(made.mode() & 0o777, 0o622);
    // The probe of other socket types recognises it too.
    assert!(unix::is_served(&path).unwrap());
    let error = address.open_receiver().await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error}");
}

#[tokio::test]
async fn a_socket_of_another_type_is_named_with_the_scheme_for_it() {
    let dir = dir();
    let at = |scheme: &str| endpoint(format!("{scheme}:{}", dir.path().join("g").display()));
    let once = {
        let mut options = Options::new();
        options.wait(Some(Duration::ZERO));
        options
    };
    for (served, asked, cure) in [
        ("unixgram", "unix", "use unixgram:"),
        ("unixgram", "unixpacket", "use unixgram:"),
        ("unix", "unixgram", "use unix: for a stream socket"),
        (
            "unixpacket",
            "unixgram",
            "unixpacket: for a seqpacket socket",
        ),
        ("unix", "unixpacket", "use unix:"),
        ("unixpacket", "unix", "use unixpacket:"),
    ] {
        let _server = at(served).bind().await.unwrap();
        let error = once.open_sender(&at(asked)).await.unwrap_err();
        assert!(
            matches!(error.kind(), OpenErrorKind::WrongType { .. }),
            "{error}"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EPROTOTYPE));
        assert!(error.to_string().contains(cure), "{error}");
    }
}

#[tokio::test]
async fn a_receiver_of_one_peer_refuses_others_with_the_reason() {
    let dir = dir();
    let address = in_dir(&dir);
    let theirs = StdDatagram::bind(address.path().unwrap()).unwrap();
    let other = dir.path().join("other");
    let _other = StdDatagram::bind(&other).unwrap();
    theirs.connect(&other).unwrap();
    let error = deadline(address.open_sender()).await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("another socket"), "{error}");
}

#[tokio::test]
async fn a_sender_waits_for_its_receiver_and_gives_up_in_time() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut sender = task::spawn(address.open_sender());
    assert_pending!(sender.poll());
    let _incoming = address.open_receiver().await.unwrap();
    drop(deadline(sender).await.unwrap());
    let mut options = Options::new();
    options.wait(Some(Duration::from_millis(20)));
    let error = options.open_sender(&abstract_one()).await.unwrap_err();
    assert!(matches!(error.kind(), OpenErrorKind::TimedOut { .. }));
}

#[tokio::test]
async fn a_full_receiver_makes_the_sender_wait_and_loses_nothing() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut incoming = address.open_receiver().await.unwrap();
    let mut outgoing = address.open_sender().await.unwrap();
    let mut sent = 0_u32;
    let mut flush = loop {
        // The kernel's limit is net.unix.max_dgram_qlen, or the send buffer.
        assert!(sent < 100_000, "nothing ever makes it wait");
        let body = sent.to_be_bytes().to_vec();
        deadline(outgoing.feed(bytes::Bytes::from(body).into()))
            .await
            .unwrap();
        sent += 1;
        let mut flush = task::spawn(outgoing.flush());
        if flush.poll().is_pending() {
            break flush;
        }
    };
    for number in 0..sent {
        assert_eq!(next(&mut incoming).await.body()[..], number.to_be_bytes());
        if number == 0 {
            deadline(crate::support::woken(&flush)).await;
            assert_ready_ok!(flush.poll());
        }
    }
}

#[tokio::test]
async fn a_receiver_that_has_gone_is_told_and_costs_its_queue() {
    let dir = dir();
    let address = in_dir(&dir);
    let incoming = address.open_receiver().await.unwrap();
    let mut outgoing = address.open_sender().await.unwrap();
    deadline(outgoing.send("lost".into())).await.unwrap();
    drop(incoming);
    let error = deadline(outgoing.send("late".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
}

#[tokio::test]
async fn a_reconnecting_sender_goes_on_with_the_next_receiver() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut incoming = address.open_receiver().await.unwrap();
    let mut options = Options::new();
    options.reconnect(Reconnect::new());
    let mut outgoing = options.open_sender(&address).await.unwrap();
    deadline(outgoing.send("one".into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "one");
    drop(incoming);
    let mut two = task::spawn(outgoing.send("two".into()));
    assert_pending!(two.poll());
    let mut incoming = address.open_receiver().await.unwrap();
    deadline(two).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "two");
    // There is no end that could be waited for.
    let closed = outgoing.close();
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .expect("it waits for nobody")
        .unwrap();
}

#[tokio::test]
async fn a_stopped_receiver_delivers_what_was_sent_and_takes_no_more() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut incoming = address.open_receiver().await.unwrap();
    let mut outgoing = address.open_sender().await.unwrap();
    for body in ["one", "two", "three"] {
        deadline(outgoing.send(body.into())).await.unwrap();
    }
    assert_eq!(next(&mut incoming).await.body(), "one");
    incoming.stop();
    let error = deadline(outgoing.send("late".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    assert_eq!(next(&mut incoming).await.body(), "two");
    assert_eq!(next(&mut incoming).await.body(), "three");
    assert!(deadline(incoming.next()).await.is_none());
}

#[tokio::test]
async fn a_limit_leaves_the_rest_to_the_next_reader_of_the_socket() {
    let (ours, theirs) = StdDatagram::pair().unwrap();
    for body in ["one", "two"] {
        theirs.send(body.as_bytes()).unwrap();
    }
    let again = ours.try_clone().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = UnixDatagram::from_std(ours).unwrap();
    let mut incoming = MessageReceiver::try_from(ours).unwrap();
    incoming.limit(1);
    assert_eq!(next(&mut incoming).await.body(), "one");
    assert!(deadline(incoming.next()).await.is_none());
    let mut rest = [0; 10];
    again.set_nonblocking(false).unwrap();
    let n = again.recv(&mut rest).unwrap();
    assert_eq!(&rest[..n], b"two");
}

#[tokio::test]
async fn each_message_names_the_process_that_sent_it() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut incoming = address.open_receiver().await.unwrap();
    let path = address.path().unwrap().display().to_string();
    let program = format!(
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
         s.sendto(b'%d' % os.getpid(), '{path}')"
    );
    let mut python = std::process::Command::new("python3");
    let Ok(mut child) = python.args(["-c", &program]).spawn() else {
        println!("SKIPPED: there is no python3");
        return;
    };
    let message = next(&mut incoming).await;
    child.wait().unwrap();
    let Some(Peer::Process(sender)) = message.peer() else {
        panic!("{message:?}");
    };
    let pid: i32 = std::str::from_utf8(message.body())
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(sender.pid, Some(pid));
    assert!(sender.is_current_user());
}

/// They do not stay open here, and do not displace the sender's credentials.
#[tokio::test]
async fn descriptors_that_are_sent_along_are_closed() {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::os::fd::AsRawFd;

    let dir = dir();
    let address = in_dir(&dir);
    let mut incoming = address.open_receiver().await.unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let sender = StdDatagram::unbound().unwrap();
    let to = UnixAddr::new(address.path().unwrap()).unwrap();
    sendmsg(
        sender.as_raw_fd(),
        &[std::io::IoSlice::new(b"take this")],
        &[ControlMessage::ScmRights(&[writer.as_raw_fd()])],
        MsgFlags::empty(),
        Some(&to),
    )
    .unwrap();
    drop(writer);
    let message = next(&mut incoming).await;
    assert_eq!(message.body(), "take this");
    let sender = message.peer().and_then(Peer::credentials).unwrap();
    assert_eq!(sender.pid, Some(std::process::id() as i32));
    // No copy of the writing end is left.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
}

#[tokio::test]
async fn sockets_of_tokio_become_ends() {
    let (here, there) = UnixDatagram::pair().unwrap();
    let (mut outgoing, _) = Connection::try_from(here).unwrap().into_split();
    let mut incoming = MessageReceiver::try_from(there).unwrap();
    deadline(outgoing.send("hello".into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "hello");
    Connection::try_from(UnixDatagram::unbound().unwrap()).expect_err("it has no peer");
}

#[tokio::test]
async fn a_message_that_still_waits_is_reported_when_it_is_dropped() {
    let (log, _recording) = Log::start();
    let dir = dir();
    let address = in_dir(&dir);
    let _incoming = address.open_receiver().await.unwrap();
    let mut outgoing = address.open_sender().await.unwrap();
    while outgoing.send("x".into()).now_or_never().is_some() {}
    drop(outgoing);
    assert!(log.text().contains("dropped with a message unsent"));
}
