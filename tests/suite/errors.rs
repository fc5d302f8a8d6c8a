//! The kind and the errno of each error, where it came from, and as an [`io::Error`].

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use aqueduct::codec::Text;
use aqueduct::connect::{Connection, GaveUp, Options, Reconnect};
use aqueduct::frame::Framing;
use aqueduct::handshake::{self, Handshake};
use aqueduct::record::{self, Recorder};
use aqueduct::service::{self, CancellationToken};
use aqueduct::{Endpoint, OpenErrorKind, Sender, pipe};
use bytes::BytesMut;
use futures_util::stream;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::codec::Decoder;

use crate::support::deadline;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// It is found again inside the [`io::Error`] that it becomes.
fn becomes<E>(error: E, kind: ErrorKind)
where
    E: StdError + Into<io::Error> + 'static,
{
    let said = error.to_string();
    let error: io::Error = error.into();
    assert_eq!(error.kind(), kind, "{said}");
    let inside = error.get_ref().expect("it is inside");
    assert!(inside.is::<E>(), "{inside:?}");
    assert_eq!(inside.to_string(), said);
}

fn address(scheme: &str, path: &Path) -> Endpoint {
    let address = format!("{scheme}{}", path.display());
    address.parse().expect("it is one")
}

#[tokio::test]
async fn of_opening() {
    let dir = dir();
    let nothing = dir.path().join("nothing");
    let mut options = Options::new();
    options.create(false).wait(Some(Duration::ZERO));
    let queue = format!("mq:/aqueduct-errors-{}", std::process::id());
    let queue: Endpoint = queue.parse().expect("it is one");
    let program = address("exec:", &nothing);
    let connect = async |at: &Endpoint| options.connect(at).await.map(drop);
    let send = async |at: &Endpoint| options.open_sender(at).await.map(drop);
    let taken = address("unix:", &dir.path().join("taken"));
    let _listener = options.bind(&taken).await.expect("bound");
    let tcp: Endpoint = "tcp://127.0.0.1:0".parse().expect("it is one");
    let tcp_taken = options.bind(&tcp).await.expect("bound");
    let tcp_taken = tcp_taken.local_endpoint();
    let one_way = address("fifo:", &nothing);
    let closed: Endpoint = "fd:987654".parse().expect("it is one");
    for (error, open_kind, kind, errno) in [
        (
            connect(&one_way).await,
            OpenErrorKind::Unsupported,
            ErrorKind::Unsupported,
            None,
        ),
        (
            send(&one_way).await,
            OpenErrorKind::NotFound,
            ErrorKind::NotFound,
            Some(libc::ENOENT),
        ),
        (
            send(&queue).await,
            OpenErrorKind::NotFound,
            ErrorKind::NotFound,
            Some(libc::ENOENT),
        ),
        (
            options.bind(&taken).await.map(drop),
            // Told by the lock beside it, before the kernel was asked.
            OpenErrorKind::InUse,
            ErrorKind::AddrInUse,
            None,
        ),
        (
            options.bind(tcp_taken).await.map(drop),
            OpenErrorKind::InUse,
            ErrorKind::AddrInUse,
            Some(libc::EADDRINUSE),
        ),
        (
            send(&program).await,
            OpenErrorKind::NotFound,
            ErrorKind::NotFound,
            Some(libc::ENOENT),
        ),
        (
            send(&closed).await,
            OpenErrorKind::NotInherited,
            ErrorKind::NotFound,
            Some(libc::EBADF),
        ),
    ] {
        let error = error.expect_err("it cannot be opened");
        assert_eq!(error.kind(), &open_kind, "{error:?}");
        assert_eq!(error.raw_os_error(), errno, "{error:?}");
        becomes(error, kind);
    }
    let dead = address("unix:", &nothing);
    options.wait(Some(Duration::from_millis(20)));
    let error = deadline(options.connect(&dead)).await.expect_err("nobody");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "of the last try");
    becomes(error, ErrorKind::TimedOut);
}

#[tokio::test]
async fn of_a_service() {
    let broken = stream::iter([Err::<(), _>(io::Error::from_raw_os_error(libc::EBADF))]);
    let handler = async |()| Ok::<_, io::Error>(());
    let served = service::serve(broken, CancellationToken::new(), move |(), _| handler(()));
    let error = deadline(served).await.expect_err("it is broken");
    assert!(
        matches!(&error, service::Error::Accept { source, .. } if source.raw_os_error() == Some(libc::EBADF))
    );
    let kind = io::Error::from_raw_os_error(libc::EBADF).kind();
    becomes(error, kind);
}

#[test]
fn of_a_service_without_a_runtime() {
    let handler = |(), _| async { Ok::<_, io::Error>(()) };
    let none = stream::empty::<io::Result<()>>();
    let served = service::serve(none, CancellationToken::new(), handler);
    let error = served.now_or_never().expect("it does not wait");
    let error = error.expect_err("there is no runtime");
    becomes(error, ErrorKind::Other);
}

#[test]
fn of_a_recording() {
    let dir = dir();
    let path = dir.path().join("recording");
    let _first = Recorder::open(&path).expect("it is made");
    let error = Recorder::open(&path).expect_err("it is in use");
    becomes(error, ErrorKind::ResourceBusy);
    let text = dir.path().join("text");
    std::fs::write(&text, "no recording").expect("written");
    let error = Recorder::open(&text).expect_err("it is none");
    becomes(error, ErrorKind::InvalidData);
    let error = Recorder::open(dir.path()).expect_err("it is a directory");
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EISDIR));
}

#[tokio::test]
async fn of_a_recording_that_is_cut_short_or_no_longer_what_it_was() {
    let mut decoder = record::RecordDecoder::default();
    let mut cut = BytesMut::from(&b"\x89A"[..]);
    let error = decoder.decode_eof(&mut cut).expect_err("it is cut short");
    becomes(error, ErrorKind::UnexpectedEof);
    let dir = dir();
    let path = dir.path().join("recording");
    drop(Recorder::open(&path).expect("it is made"));
    let mut damaged = std::fs::read(&path).expect("it is there");
    // A check, and a length that is less than any record has.
    damaged.extend([0; 4]);
    damaged.extend([1, 0, 0, 0]);
    let mut decoder = record::RecordDecoder::default();
    let error = decoder
        .decode(&mut damaged[..].into())
        .expect_err("no record");
    assert!(
        matches!(error, record::Error::Damaged { whole: 0, .. }),
        "{error:?}"
    );
    becomes(error, ErrorKind::InvalidData);
}

#[tokio::test]
async fn of_a_handshake() {
    for said in [&b""[..], b"\0\0\0\x02hi"] {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        there.write_all(said).await.expect("room");
        if said.is_empty() {
            drop(there);
        }
        let handshake = Handshake::new("chat/1");
        let shaken =
            handshake.channel::<String, String>(Connection::from_io(here, Framing::length()), Text);
        let error = deadline(shaken).await.expect_err("it speaks none");
        assert!(
            said.is_empty() || error.to_string().contains("(it sent \"hi\")"),
            "{error}"
        );
        let kind = match said {
            [] => ErrorKind::UnexpectedEof,
            _ => ErrorKind::InvalidData,
        };
        becomes(error, kind);
    }
    let (here, _there) = UnixStream::pair().expect("a pair");
    let handshake = Handshake::new("no name").timeout(Duration::from_millis(10));
    let shaken =
        handshake.channel::<String, String>(Connection::from_io(here, Framing::length()), Text);
    becomes(
        deadline(shaken).await.expect_err("it has a space"),
        ErrorKind::InvalidInput,
    );
    let (here, _there) = UnixStream::pair().expect("a pair");
    let handshake = Handshake::new("chat/1").timeout(Duration::from_millis(10));
    let shaken =
        handshake.channel::<String, String>(Connection::from_io(here, Framing::length()), Text);
    becomes(
        deadline(shaken).await.expect_err("it is silent"),
        ErrorKind::TimedOut,
    );
    let error = handshake::Error::Io(io::Error::from_raw_os_error(libc::ECONNRESET));
    let error = io::Error::from(error);
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "as it was");
}

#[tokio::test]
async fn of_connecting_again() {
    let refused = || async { Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)) };
    let client = Reconnect::new().attempts(1).connect(refused);
    let error = deadline(client.into_receiver().next())
        .await
        .expect("no end");
    let error = error.expect_err("it gives up");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let gave_up = GaveUp::of(&error).expect("it is inside");
    assert_eq!(gave_up.source.raw_os_error(), Some(libc::ECONNREFUSED));
    let mut client = Reconnect::new().connect(refused).into_sender();
    client.close().await.expect("nothing was sent");
    let error = client.send("late".into()).await.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn of_a_channel() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let writer = pipe::Sender::from_owned_fd(OwnedFd::from(writer)).expect("one");
    let mut sender: Sender<String> = Sender::new(writer.framed(Framing::lines()), Text);
    // What another test is just starting may have the reader too, for a moment.
    let refused = async {
        loop {
            match sender.send("x".into()).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let error = deadline(refused).await;
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    let error = deadline(sender.send("one\ntwo".into()))
        .await
        .expect_err("again");
    assert_eq!(error.raw_os_error(), None, "{error:?}");
    let timed_out = aqueduct::Error::TimedOut {
        after: Duration::ZERO,
    };
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    assert_eq!(aqueduct::Error::Closed.kind(), ErrorKind::BrokenPipe);
}
