//! `fd:N`: what it is, taken over once, and shared without a change.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;

use crate::support::is_nonblocking;
use aqueduct::codec::Text;
use aqueduct::connect::{Options, Peer};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, OpenError, OpenErrorKind, mq};
use futures_util::{SinkExt, StreamExt};

use super::options;
use crate::conformance::links::endpoint;
use crate::mq::QueueName;
use crate::support::{Peer as Process, alone, deadline, is_peer, peer_command};

/// The address of a descriptor that is handed in.
fn offered(fd: impl Into<OwnedFd>) -> Endpoint {
    aqueduct::inherited::offer(fd).expect("its number is free")
}

/// Asserts that the descriptor was refused for what was asked, for this reason.
fn refuses(error: OpenError, action: &str, reason: &str) {
    assert_eq!(error.kind(), &OpenErrorKind::Unsupported, "{error:?}");
    let said = error.to_string();
    assert!(said.starts_with(&format!("cannot {action} fd:")), "{said}");
    assert!(said.contains(reason), "{said}");
}

const READING_ONLY: &str = "the descriptor is open only for reading";
const ONE_WAY: &str = "its direction is one-way";

/// Why it cannot be taken over.
fn problem(error: &OpenError) -> String {
    assert_eq!(error.kind(), &OpenErrorKind::NotInherited, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_descriptor_of_the_wrong_kind_is_refused_and_left_alone() {
    let options = Options::new();
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    let reader = offered(reader);
    let error = options.open_sender(&reader).await.expect_err("it is read");
    let said = error.to_string();
    assert!(
        said.contains("the descriptor is open only for reading; pass down"),
        "{said}"
    );
    refuses(error, "send to", READING_ONLY);
    let error = options.connect(&reader).await.expect_err("it is one-way");
    refuses(error, "connect to", ONE_WAY);
    let error = options.bind(&reader).await.expect_err("it is one-way");
    refuses(error, "bind", ONE_WAY);
    // It was not taken by any of these.
    let mut incoming = options.open_receiver(&reader).await.expect("it is read");
    writer.write_all(b"\0\0\0\x02hi").expect("there is room");
    let hi = deadline(incoming.next()).await.expect("it comes");
    assert_eq!(hi.expect("it is whole").body(), "hi");

    let listener = offered(TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    for (asked, error) in [
        ("connect to", options.connect(&listener).await.map(drop)),
        ("send to", options.open_sender(&listener).await.map(drop)),
    ] {
        refuses(error.expect_err("it listens"), asked, "a listening socket");
    }
    let bound = options.bind(&listener).await.expect("it listens");
    assert!(
        bound
            .local_endpoint()
            .to_string()
            .starts_with("tcp://127.0.0.1:")
    );
}

/// In a process of its own, since what is refused stays open.
#[test]
fn a_descriptor_that_holds_no_messages_is_refused() {
    let name = "connect::descriptors::a_descriptor_that_holds_no_messages_is_refused";
    alone(name, || aqueduct_conformance::run(refused()));
}

async fn refused() {
    let options = Options::new();
    let datagrams = UnixDatagram::unbound().expect("a socket can be made");
    let directory = File::open("/").expect("it is there");
    let counter = nix::sys::eventfd::EventFd::new().expect("it can be made");
    let kernel = socket2::Socket::new(libc::AF_NETLINK.into(), socket2::Type::RAW, None);
    for (fd, word) in [
        (OwnedFd::from(datagrams), "datagram"),
        (directory.into(), "directory"),
        (counter.into(), "of no kind that carries messages"),
        (
            kernel.expect("it can be made").into(),
            "of a type that is not known",
        ),
    ] {
        let error = options.open_receiver(&offered(fd)).await;
        let said = error.expect_err("it has no messages").to_string();
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_number_is_taken_once_and_only_if_it_was_inherited() {
    let options = Options::new();
    let error = options.connect(&endpoint("fd:987654".into())).await;
    let error = error.expect_err("it is not open");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert!(problem(&error).contains("it is not open"));

    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    let own = endpoint(format!("fd:{}", theirs.as_raw_fd()));
    let error = options.connect(&own).await.expect_err("it is our own");
    let said = problem(&error);
    // An earlier test may have taken the number for another descriptor.
    assert!(
        said.contains("has not claimed") || said.contains("already taken"),
        "{said}"
    );

    let address = offered(ours);
    let connection = options.connect(&address).await.expect("it is ours to take");
    let error = options.connect(&address).await.expect_err("it is taken");
    assert!(problem(&error).contains("already taken"));
    assert!(matches!(connection.peer(), Peer::Process(_)));
    drop(connection);
    let end = deadline(tokio::task::spawn_blocking(move || {
        (&theirs).read(&mut [0; 1])
    }));
    let end = end
        .await
        .expect("it does not panic")
        .expect("it is readable");
    assert_eq!(end, 0, "dropping it closes it");
}

#[tokio::test]
async fn the_mode_of_what_others_share_is_left_as_it_is() {
    let options = Options::new();
    // Sockets of both kinds.
    let packets = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None);
    let (a, b) = packets.expect("sockets can be made");
    let (c, d) = UnixStream::pair().expect("sockets can be made");
    for (ours, theirs) in [(OwnedFd::from(a), OwnedFd::from(b)), (c.into(), d.into())] {
        let shared = ours.try_clone().expect("a descriptor is free");
        let ours = options.connect(&offered(ours)).await.expect("it is taken");
        let theirs = options.connect(&offered(theirs)).await.expect("it is");
        let mut ours = ours.channel::<String, String>(Text);
        let mut theirs = theirs.channel::<String, String>(Text);
        ours.send("hi".into()).await.expect("it is sent");
        let hi = deadline(theirs.recv()).await.expect("it comes");
        assert_eq!(hi.expect("it is whole"), "hi");
        assert!(!is_nonblocking(&shared).expect("it is open"));
    }
    // Pipes.
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let shared = [
        reader
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor is free"),
        writer
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor is free"),
    ];
    let mut outgoing = options.open_sender(&offered(writer)).await.expect("it is");
    let mut incoming = options
        .open_receiver(&offered(reader))
        .await
        .expect("it is");
    outgoing.send("hi".into()).await.expect("it is sent");
    assert!(deadline(incoming.next()).await.is_some());
    for fd in shared {
        assert!(!is_nonblocking(fd).expect("it is open"));
    }
}

#[tokio::test]
async fn a_queue_and_a_file_are_found_out() {
    let options = Options::new();
    let name = QueueName::new();
    let queue = name.create(mq::Driver::Pool, 2, 64);
    let address = offered(queue.as_fd().try_clone_to_owned().expect("it is open"));
    let error = options.connect(&address).await.expect_err("it is one-way");
    refuses(error, "connect to", ONE_WAY);
    let mut outgoing = options.open_sender(&address).await.expect("it is a queue");
    outgoing.send("hi".into()).await.expect("there is room");
    let hi = deadline(queue.recv()).await.expect("it came");
    assert_eq!((hi.priority(), &hi.body()[..]), (Some(0), &b"hi"[..]));

    let mut file = tempfile::tempfile().expect("a file can be made");
    file.write_all(b"one\ntwo\n").expect("there is room");
    std::io::Seek::rewind(&mut file).expect("it is a file");
    let incoming = super::options(Framing::lines());
    let incoming = incoming.open_receiver(&offered(file)).await;
    let lines: Vec<_> = deadline(incoming.expect("it is read").collect()).await;
    assert_eq!(lines.len(), 2);
}

/// A reader used to take up to 64 KiB ahead, whatever was asked for, so that the next reader of the
/// same open file began in the middle of a line.
#[tokio::test]
async fn a_limited_receiver_leaves_the_rest_to_the_next() {
    let text: String = (1..=20_000).map(|i| format!("{i}\n")).collect();
    let mut file = tempfile::tempfile().expect("a file can be made");
    file.write_all(text.as_bytes()).expect("there is room");
    std::io::Seek::rewind(&mut file).expect("it is a file");
    let (socket, mut peer) = UnixStream::pair().expect("sockets can be made");
    let writer = std::thread::spawn(move || peer.write_all(text.as_bytes()));
    for shared in [OwnedFd::from(file), socket.into()] {
        for expected in [["1", "2"], ["3", "4"]] {
            let ours = offered(shared.try_clone().expect("a descriptor is free"));
            let incoming = options(Framing::lines()).open_receiver(&ours).await;
            let mut incoming = incoming.expect("it is read");
            incoming.limit(2);
            let lines: Vec<_> = deadline(incoming.collect()).await;
            let lines = lines.iter().map(|it| it.as_ref().expect("whole").body());
            assert!(lines.eq(expected));
        }
        let mut next = File::from(shared);
        let mut rest = [0; 4];
        next.read_exact(&mut rest).expect("it is there");
        assert_eq!(&rest, b"5\n6\n");
        std::io::copy(&mut next, &mut std::io::sink()).expect("it is read");
    }
    writer.join().expect("no panic").expect("it was read");
}

const READ_ONLY: &str = "connect::descriptors::standard_input_cannot_be_sent_to";

#[tokio::test]
async fn standard_descriptors_are_shared_any_number_of_times() {
    let mut command = peer_command(READ_ONLY);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let mut stdin = process.0.stdin.take().expect("it is piped");
    stdin.write_all(b"one\ntwo\n").expect("it is read");
    drop(stdin);
    assert!(
        process
            .exit()
            .await
            .expect("it can be waited for")
            .success()
    );
}

#[tokio::test]
async fn standard_input_cannot_be_sent_to() {
    if !is_peer(READ_ONLY) {
        return;
    }
    let stdin: Endpoint = endpoint("fd:0".into());
    let error = Options::new().open_sender(&stdin).await;
    refuses(error.expect_err("it is read"), "send to", READING_ONLY);
    let options = options(Framing::lines());
    for word in ["one", "two"] {
        let mut incoming = options.open_receiver(&stdin).await.expect("it is shared");
        incoming.limit(1);
        let line = deadline(incoming.next()).await.expect("it comes");
        assert_eq!(line.expect("it is whole").body(), word);
    }
}

#[tokio::test]
async fn listeners_of_every_kind_are_found_out_and_served() {
    let dir = super::dir();
    for scheme in ["unix", "unixpacket"] {
        let path = dir.path().join(scheme);
        let listener = match scheme {
            "unix" => OwnedFd::from(UnixListener::bind(&path).expect("bound")),
            _ => {
                let kind = socket2::Type::SEQPACKET;
                let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None);
                let socket = socket.expect("a socket");
                let at = socket2::SockAddr::unix(&path).expect("it fits");
                socket.bind(&at).expect("bound");
                socket.listen(4).expect("it listens");
                socket.into()
            }
        };
        let mut bound = offered(listener).bind().await.expect("it listens");
        assert!(format!("{bound:?}").contains(scheme));
        let client = endpoint(format!("{scheme}:{}", path.display()));
        let client = client.connect().await.expect("connected");
        let server = deadline(bound.accept()).await.expect("no end");
        let server = server.expect("accepted");
        let me = server.peer().credentials().expect("the kernel knows it");
        assert_eq!(me.pid, Some(std::process::id() as i32));
        assert_eq!(me.uid, nix::unistd::getuid().as_raw());
        let said = format!("process {} of user {}", std::process::id(), me.uid);
        assert_eq!(server.peer().to_string(), said);
        let (mut outgoing, _incoming) = client.into_split();
        outgoing.send("hi".into()).await.expect("there is room");
        let (_outgoing, mut incoming) = server.into_split();
        let hi = deadline(incoming.next()).await.expect("no end");
        assert_eq!(hi.expect("it is whole").body(), "hi");
    }
}

/// What the next one to read from it finds.
#[tokio::test]
async fn a_shared_packet_socket_keeps_what_was_not_taken() {
    let (here, there) = aqueduct::unix::seqpacket::pair().expect("a pair");
    for message in ["one", "two", "three", "four"] {
        there.send(message.as_bytes()).await.expect("there is room");
    }
    let others = here.as_fd().try_clone_to_owned().expect("there is room");
    let shared = offered(here.as_fd().try_clone_to_owned().expect("there is room"));
    let (_, mut incoming) = shared.connect().await.expect("it is one").into_split();
    incoming.limit(2);
    for expected in ["one", "two"] {
        let came = deadline(incoming.next()).await.expect("no end");
        assert_eq!(came.expect("it is whole").body(), expected);
    }
    assert!(deadline(incoming.next()).await.is_none());
    let (_, mut incoming) = offered(others).connect().await.expect("it is").into_split();
    let came = deadline(incoming.next()).await.expect("no end");
    assert_eq!(came.expect("it is whole").body(), "three");
    incoming.stop();
    assert_eq!(incoming.unfinished(), 0);
    assert!(deadline(incoming.next()).await.is_none());
    assert_eq!(
        deadline(here.recv())
            .await
            .expect("it is left")
            .expect("no end"),
        "four"
    );
}

#[tokio::test]
async fn a_device_is_connected_both_ways_if_it_is_open_both_ways() {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = offered(null.expect("every system has it"));
    let connection = null.connect().await.expect("it is open for both");
    assert!(matches!(connection.peer(), Peer::Unknown));
    assert_eq!(connection.peer().to_string(), "an unknown peer");
    assert_eq!(connection.peer().credentials(), None);
    let (mut outgoing, mut incoming) = connection.into_split();
    outgoing.send("hi".into()).await.expect("it goes nowhere");
    assert!(deadline(incoming.next()).await.is_none());

    let null = offered(File::open("/dev/null").expect("every system has it"));
    let error = null.connect().await.expect_err("it is open for reading");
    refuses(error, "connect to", READING_ONLY);
}

#[tokio::test]
async fn a_queue_is_received_from() {
    let name = QueueName::new();
    let queue = name.create(mq::Driver::default(), 2, 8);
    queue.try_send(3, b"one").expect("there is room");
    let address = offered(queue.as_fd().try_clone_to_owned().expect("there is room"));
    let mut incoming = Options::new()
        .open_receiver(&address)
        .await
        .expect("opened");
    let came = deadline(incoming.next())
        .await
        .expect("no end")
        .expect("whole");
    assert_eq!(
        (came.body().as_ref(), came.priority()),
        (&b"one"[..], Some(3))
    );
}

/// It cannot be opened once more, and is written as it is.
#[tokio::test]
async fn a_fifo_whose_last_reader_has_gone_says_so() {
    let dir = super::dir();
    let path = dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let both = File::options().read(true).write(true).open(&path);
    let writer = File::options().write(true).open(&path).expect("opened");
    drop(both);
    let mut outgoing = Options::new()
        .open_sender(&offered(writer))
        .await
        .expect("opened");
    // What another test is just starting may have the reader too, for a moment.
    let refused = async {
        loop {
            match outgoing.send("one".into()).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let error = deadline(refused).await;
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}
