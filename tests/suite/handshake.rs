//! The opening handshake over real sockets, framed in every way that keeps boundaries, and with
//! peers that do not speak it.

use std::time::Duration;

use aqueduct::Channel;
use aqueduct::codec::{Json, Postcard, Raw, Text};
use aqueduct::connect::{Connection, Reconnect};
use aqueduct::frame::{FrameError, FramedRead, FramedWrite, Framing};
use aqueduct::handshake::{Error, Handshake, What};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::support::deadline;

type Texts = Channel<String, String>;

fn chat() -> Handshake {
    Handshake::new("chat/2")
}

/// It holds for both directions.
#[tokio::test]
async fn matching_sides_agree_on_the_smaller_largest_frame() {
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        let (here, there) = UnixStream::pair().unwrap();
        let (small, large) = (framing.clone().max_frame(50), framing.max_frame(5000));
        let (one, two) = (chat(), chat());
        let (a, b) = tokio::join!(
            one.channel(Connection::from_io(here, small), Text),
            two.channel(Connection::from_io(there, large), Text),
        );
        let (mut a, mut b): (Texts, Texts) = (a.unwrap(), b.unwrap());
        let fits = "x".repeat(50);
        for (from, to) in [(&mut a, &mut b)] {
            from.send(fits.clone()).await.unwrap();
            assert_eq!(deadline(to.recv()).await.unwrap().unwrap(), fits);
            to.send(fits.clone()).await.unwrap();
            assert_eq!(deadline(from.recv()).await.unwrap().unwrap(), fits);
        }
        for end in [&mut a, &mut b] {
            let Err(aqueduct::Error::Io(error)) = end.send("x".repeat(51)).await else {
                panic!("more than was agreed was sent");
            };
            let expected = FrameError::TooLarge { len: 51, max: 50 };
            assert_eq!(FrameError::of(&error), Some(&expected));
        }
    }
}

#[tokio::test]
async fn messages_sent_right_behind_the_handshake_are_not_lost() {
    let (here, there) = UnixStream::pair().unwrap();
    let eager = tokio::spawn(async move {
        let mut channel: Texts = chat()
            .channel(Connection::from_io(here, Framing::length()), Text)
            .await
            .unwrap();
        for n in 0..1000 {
            channel.feed(n.to_string().repeat(10)).await.unwrap();
        }
        channel.close().await.unwrap();
    });
    let mut channel: Texts = chat()
        .channel(Connection::from_io(there, Framing::length()), Text)
        .await
        .unwrap();
    for n in 0..1000 {
        let message = deadline(channel.recv()).await.unwrap().unwrap();
        assert_eq!(message, n.to_string().repeat(10));
    }
    assert!(channel.recv().await.is_none());
    eager.await.unwrap();
}

fn mismatch(error: &Error) -> (What, &str, &str) {
    match error {
        Error::Mismatch { what, ours, theirs } => (*what, ours, theirs),
        other => panic!("{other:?}"),
    }
}

/// Over TCP, where closing with unread input would reset the connection and lose the verdict.
#[tokio::test]
async fn a_mismatch_is_one_error_on_both_sides_naming_both_values() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..20 {
        let server = async {
            let (conn, _) = listener.accept().await.unwrap();
            chat()
                .channel::<u32, u32>(Connection::from_io(conn, Framing::length()), Postcard)
                .await
        };
        let client = async {
            let conn = TcpStream::connect(address).await.unwrap();
            chat()
                .channel::<u32, u32>(Connection::from_io(conn, Framing::length()), Json)
                .await
        };
        let (server, client) = deadline(async { tokio::join!(server, client) }).await;
        let (server, client) = (server.unwrap_err(), client.unwrap_err());
        assert_eq!(mismatch(&server), (What::Codec, "postcard", "json"));
        assert_eq!(mismatch(&client), (What::Codec, "json", "postcard"));
        let text = client.to_string();
        assert!(text.contains("json") && text.contains("postcard"), "{text}");
    }
    let (here, there) = UnixStream::pair().unwrap();
    let old = Handshake::new("chat/1");
    let new = chat();
    let (old, new) = tokio::join!(
        old.channel::<String, String>(Connection::from_io(here, Framing::nul()), Text),
        new.channel::<String, String>(Connection::from_io(there, Framing::nul()), Text),
    );
    assert_eq!(
        mismatch(&old.unwrap_err()),
        (What::Messages, "chat/1", "chat/2")
    );
    assert_eq!(
        mismatch(&new.unwrap_err()),
        (What::Messages, "chat/2", "chat/1")
    );
}

/// Closing with the other side's verdict unread would reset a TCP connection and might destroy ours.
#[tokio::test]
async fn a_side_that_refuses_waits_for_the_other_verdict() {
    let (here, mut there) = tokio::io::duplex(1000);
    let chat = chat();
    let ours = chat.channel::<String, String>(Connection::from_io(here, Framing::lines()), Text);
    let mut ours = tokio_test::task::spawn(ours);
    there
        .write_all(b"aqueduct/1 json 10 chat/2\n")
        .await
        .unwrap();
    tokio_test::assert_pending!(ours.poll());
    let mut told = [0; 100];
    let n = there.read(&mut told).await.unwrap();
    assert!(
        told[..n].ends_with(b"\naqueduct/1 no codec\n"),
        "it has told its own"
    );
    there.write_all(b"aqueduct/1 no codec\n").await.unwrap();
    assert!(ours.is_woken());
    let refused = tokio_test::assert_ready!(ours.poll()).unwrap_err();
    assert_eq!(mismatch(&refused), (What::Codec, "text", "json"));
}

#[tokio::test]
async fn a_later_version_is_a_mismatch_and_is_told_so() {
    let (here, mut there) = UnixStream::pair().unwrap();
    there
        .write_all(b"aqueduct/7 something else\naqueduct/7 no version\n")
        .await
        .unwrap();
    let ours = chat()
        .channel::<String, String>(Connection::from_io(here, Framing::lines()), Text)
        .await;
    assert_eq!(mismatch(&ours.unwrap_err()), (What::Version, "1", "7"));
    let mut told = String::new();
    there.read_to_string(&mut told).await.unwrap();
    assert_eq!(
        told,
        "aqueduct/1 text 1048576 chat/2\naqueduct/1 no version\n"
    );
}

#[tokio::test]
async fn a_refusal_by_the_other_side_alone_is_an_error_too() {
    let (here, mut there) = UnixStream::pair().unwrap();
    there
        .write_all(b"aqueduct/1 text 10 chat/2\naqueduct/1 no messages\n")
        .await
        .unwrap();
    let ours = chat()
        .channel::<String, String>(Connection::from_io(here, Framing::lines()), Text)
        .await;
    assert_eq!(
        mismatch(&ours.unwrap_err()),
        (What::Messages, "chat/2", "chat/2")
    );
}

#[tokio::test]
async fn a_peer_that_says_something_else_is_named_with_what_it_said() {
    let request = "GET / HTTP/1.1\\r";
    for (framing, sent, got) in [
        (Framing::lines(), &b"GET / HTTP/1.1\r\n\r\n"[..], request),
        // As a length, "GET " is 1.2 GB.
        (Framing::length(), b"GET / HTTP/1.1\r\n\r\n", request),
        (Framing::nul(), &[b'x'; 1000], &"x".repeat(32)),
        (Framing::length(), b"\0\0\0\x02hi", "hi"),
        (
            Framing::length(),
            b"aqueduct/1 text 10 chat/2\n",
            "aqueduct/1 text 10 chat/2",
        ),
        // A hello, and then no verdict.
        (
            Framing::lines(),
            b"aqueduct/1 text 10 chat/2\nhello?\n",
            "hello?",
        ),
    ] {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(sent).await.unwrap();
        let chat = chat();
        let ours = chat.channel::<String, String>(Connection::from_io(here, framing), Text);
        match deadline(ours).await.unwrap_err() {
            Error::NotSpoken { got: it, .. } => assert!(it.starts_with(got), "{it} is not {got}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_first_is_a_typed_error() {
    let (here, there) = UnixStream::pair().unwrap();
    there.shutdown_write();
    let ours = chat()
        .channel::<String, String>(Connection::from_io(here, Framing::length()), Text)
        .await;
    assert!(matches!(ours.unwrap_err(), Error::Closed));

    // And having said hello.
    let (here, mut there) = UnixStream::pair().unwrap();
    there
        .write_all(b"aqueduct/1 text 10 chat/2\n")
        .await
        .unwrap();
    there.shutdown_write();
    let ours = chat()
        .channel::<String, String>(Connection::from_io(here, Framing::lines()), Text)
        .await;
    assert!(matches!(ours.unwrap_err(), Error::Closed));
}

trait ShutdownWrite {
    fn shutdown_write(&self);
}

impl ShutdownWrite for UnixStream {
    fn shutdown_write(&self) {
        use std::os::fd::AsRawFd;
        let how = nix::sys::socket::Shutdown::Write;
        nix::sys::socket::shutdown(self.as_raw_fd(), how).unwrap();
    }
}

#[tokio::test]
async fn silence_and_half_a_hello_time_out() {
    for said in [&b""[..], b"aqueduct/1 te"] {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(said).await.unwrap();
        let limit = Duration::from_millis(20);
        let patient = chat().timeout(limit);
        let ours =
            patient.channel::<String, String>(Connection::from_io(here, Framing::lines()), Text);
        match deadline(ours).await.unwrap_err() {
            Error::TimedOut { after } => assert_eq!(after, limit),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_sent_is_refused_here() {
    for name in ["", "two words", "zwölf", &"x".repeat(65)] {
        let (here, _there) = UnixStream::pair().unwrap();
        let ours = Handshake::new(name);
        let ours =
            ours.channel::<String, String>(Connection::from_io(here, Framing::length()), Text);
        assert!(matches!(ours.await.unwrap_err(), Error::BadName(_)));
    }
}

/// Both directions over channels that hold nothing: a send ends when the other side has received.
fn one_way() -> (
    impl Sink<Bytes, Error = std::io::Error> + Send + Unpin,
    impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
) {
    let (tx, mut rx) = mpsc::channel::<Bytes>(1);
    let sink = PollSender::new(tx).sink_map_err(std::io::Error::other);
    let stream = stream::poll_fn(move |cx| rx.poll_recv(cx).map(|frame| frame.map(Ok)));
    (sink, stream)
}

#[tokio::test]
async fn message_transports_without_room_shake_hands_within_limits() {
    let ((to_there, from_here), (to_here, from_there)) = (one_way(), one_way());
    let (a, b) = (chat(), chat());
    let (a, b) = tokio::join!(
        a.channel::<Bytes, Bytes>(Connection::from_frames(to_there, from_there, 10), Raw),
        b.channel::<Bytes, Bytes>(Connection::from_frames(to_here, from_here, 20), Raw),
    );
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    for end in [&mut a, &mut b] {
        let refused = end.send(Bytes::from(vec![0; 11])).await.unwrap_err();
        assert!(matches!(&refused, aqueduct::Error::Io(e) if FrameError::of(e).is_some()));
    }
    a.send(Bytes::from("hi")).await.unwrap();
    assert_eq!(b.recv().await.unwrap().unwrap(), "hi");
}

/// A peer that does not keep to the largest frame that was agreed.
#[tokio::test]
async fn a_larger_frame_than_agreed_is_an_error_and_the_end() {
    let ((mut to_us, from_peer), (to_peer, mut from_us)) = (one_way(), one_way());
    let peer = async {
        to_us.send("aqueduct/1 raw 10 chat/2".into()).await.unwrap();
        to_us.send("aqueduct/1 ok".into()).await.unwrap();
        for _ in 0..2 {
            from_us.next().await.unwrap().unwrap();
        }
        to_us.send(Bytes::from(vec![0; 11])).await.unwrap();
    };
    let chat = chat();
    let ours = async {
        let channel =
            chat.channel::<Bytes, Bytes>(Connection::from_frames(to_peer, from_peer, 20), Raw);
        let mut channel = channel.await.unwrap();
        let Some(Err(aqueduct::Error::Io(error))) = channel.recv().await else {
            panic!("it was taken");
        };
        let expected = FrameError::TooLarge { len: 11, max: 10 };
        assert_eq!(FrameError::of(&error), Some(&expected));
        assert!(channel.recv().await.is_none());
    };
    deadline(async { tokio::join!(peer, ours) }).await;
}

#[tokio::test]
async fn a_peer_cannot_make_it_read_more_than_a_hello() {
    let (here, there) = UnixStream::pair().unwrap();
    let (read, write) = here.into_split();
    // The waist has a larger limit of its own.
    let frames = FramedRead::new(read, Framing::length());
    let replies = FramedWrite::new(write, Framing::length());
    let mut peer = FramedWrite::new(there, Framing::length());
    peer.send(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
    let ours = chat();
    let ours = ours.channel::<String, String>(Connection::from_frames(replies, frames, 10), Text);
    let error = ours.await.unwrap_err();
    assert!(matches!(error, Error::NotSpoken { .. }), "{error:?}");
}

/// Two pipes, one for each direction.
#[tokio::test]
async fn a_channel_over_ends_of_others_has_what_was_agreed() {
    use aqueduct::pipe::pipe;

    let ends = || {
        let (sink, stream) = pipe().unwrap();
        let framing = Framing::length();
        let sink = FramedWrite::new(sink, framing.clone());
        (sink, FramedRead::new(stream, framing))
    };
    let ((to_there, from_here), (to_here, from_there)) = (ends(), ends());
    let (one, two) = (chat(), chat());
    let (a, b) = tokio::join!(
        one.channel(Connection::from_frames(to_there, from_there, 50), Text),
        two.channel(Connection::from_frames(to_here, from_here, 5000), Text),
    );
    let (mut a, mut b): (Texts, Texts) = (a.unwrap(), b.unwrap());
    let fits = "x".repeat(50);
    a.send(fits.clone()).await.unwrap();
    assert_eq!(deadline(b.recv()).await.unwrap().unwrap(), fits);
    b.send(fits.clone()).await.unwrap();
    assert_eq!(deadline(a.recv()).await.unwrap().unwrap(), fits);
    for end in [&mut a, &mut b] {
        assert!(end.send("x".repeat(51)).await.is_err());
    }

    let ((to_there, from_here), (to_here, from_there)) = (ends(), ends());
    let (a, b): (Result<Texts, _>, Result<Texts, _>) = tokio::join!(
        one.channel(Connection::from_frames(to_there, from_there, 50), Text),
        two.channel(Connection::from_frames(to_here, from_here, 50), Json),
    );
    let a = a.unwrap_err();
    let b = b.unwrap_err();
    assert_eq!(mismatch(&a), (What::Codec, "text", "json"));
    assert_eq!(mismatch(&b), (What::Codec, "json", "text"));
}

/// They are read together with the verdict, and a reconnecting end used to drop them.
#[tokio::test]
async fn a_reconnecting_end_keeps_messages_behind_the_handshake() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut bytes = Vec::new();
    let ok: &[u8] = b"aqueduct/1 ok";
    for frame in [&b"aqueduct/1 text 1048576 chat/2"[..], ok, b"first"] {
        bytes.extend((frame.len() as u32).to_be_bytes());
        bytes.extend(frame);
    }
    there.write_all(&bytes).await.unwrap();
    let mut here = Some(here);
    let connection = Reconnect::new().connect(move || {
        let here = here.take().expect("it connects once");
        async move {
            let connection = Connection::from_io(here, Framing::length());
            Ok(chat().exchange(connection, "text").await?)
        }
    });
    let mut channel: Channel<String, String> = connection.channel(Text);
    let first = deadline(channel.recv()).await.unwrap();
    assert_eq!(first.unwrap(), "first");
}
