//! TCP: options, ends, errors and cancellation.

mod waiting;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aqueduct::frame::{FramedWrite, Framing};
use aqueduct::tcp::{self, BindOptions, ConnectOptions};
use aqueduct::{Endpoint, OpenErrorKind as Kind, unix};
use futures_util::{SinkExt, StreamExt};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_test::assert_ready;

use crate::actor::{Actor, runtime};
use crate::support::{deadline, is_peer};

async fn linked() -> (TcpStream, TcpStream) {
    let listener = tcp::bind("127.0.0.1:0").await.expect("a free port");
    let client = tcp::connect(listener.local_addr().expect("it is bound"));
    let (client, server) = tokio::join!(client, listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

/// A local port that nobody listens on: bound, so that nobody else takes it, but not listening.
fn quiet_port() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("a free port");
    let at = socket.local_addr().expect("it is bound").as_socket();
    (socket, at.expect("it is an IP address"))
}

/// Binds as soon as the port is free: a process that another test is just starting may have a
/// duplicate of a socket just closed. That is a matter of milliseconds, `TIME_WAIT` one of a minute.
async fn bind_soon(at: SocketAddr) -> tcp::Listener {
    deadline(async {
        loop {
            match tcp::bind(at).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == &Kind::InUse => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_port_alone_is_offered_to_this_machine_only() {
    for text in [":0", "0"] {
        let listener = tcp::bind(text).await.expect("a free port");
        assert!(listener.local_addr().expect("bound").ip().is_loopback());
    }
    let all = tcp::bind("0.0.0.0:0").await.expect("a free port");
    assert!(all.local_addr().expect("bound").ip().is_unspecified());
}

#[tokio::test]
async fn nagle_is_off_on_both_sides() {
    let (client, server) = linked().await;
    assert!(client.nodelay().expect("an option") && server.nodelay().expect("an option"));
}

/// Without Nagle's algorithm each write is a packet of its own, and with it the second one waits.
#[tokio::test]
async fn a_frame_is_one_write_whatever_its_size_up_to_a_chunk() {
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        let (client, mut server) = linked().await;
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            stream: client,
            writes: Arc::clone(&writes),
        };
        let mut frames = FramedWrite::new(counted, framing);
        for (n, size) in [1, 100, 4096, 20_000, 60_000].into_iter().enumerate() {
            frames.send(vec![b'x'; size].into()).await.expect("sent");
            assert_eq!(writes.load(Ordering::Relaxed), n + 1, "{size} bytes");
            let mut frame = vec![0; size];
            deadline(server.read_exact(&mut frame)).await.expect("read");
        }
    }
}

struct Counted {
    stream: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Counted {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

#[tokio::test]
async fn keepalive_reaches_the_sockets_of_both_sides() {
    let seconds = Duration::from_secs;
    let keepalive = seconds(18);
    let listener = BindOptions::new().keepalive(keepalive).bind(":0").await;
    let listener = listener.expect("a port");
    let at = listener.local_addr().expect("bound");
    let client = ConnectOptions::new().keepalive(keepalive).connect(at).await;
    let client = client.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    for stream in [&client, &server] {
        let socket = SockRef::from(stream);
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), seconds(18));
        assert_eq!(
            socket.tcp_keepalive_interval().expect("an option"),
            seconds(3)
        );
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 6);
    }
    let (client, _) = linked().await;
    assert!(!SockRef::from(&client).keepalive().expect("an option"));
}

#[tokio::test]
async fn after_a_half_close_the_peer_can_still_answer() {
    for drop_half in [false, true] {
        let (client, mut server) = linked().await;
        let (mut reader, mut writer) = client.into_split();
        writer.write_all(b"question").await.expect("written");
        if drop_half {
            drop(writer);
        } else {
            writer.shutdown().await.expect("shut down");
        }
        let mut question = String::new();
        deadline(server.read_to_string(&mut question))
            .await
            .expect("read");
        assert_eq!(question, "question");
        server.write_all(b"answer").await.expect("written");
        drop(server);
        let mut answer = String::new();
        deadline(reader.read_to_string(&mut answer))
            .await
            .expect("read");
        assert_eq!(answer, "answer");
    }
}

#[tokio::test]
async fn draining_before_closing_avoids_a_reset() {
    for drain in [false, true] {
        let (mut client, mut server) = linked().await;
        client
            .write_all(b"more than is read")
            .await
            .expect("written");
        assert_eq!(deadline(server.read_u8()).await.expect("read"), b'm');
        server.write_all(b"reply").await.expect("written");
        let closing = tokio::spawn(async move {
            if drain {
                tcp::close(server, Duration::from_secs(20)).await
            } else {
                Ok(0)
            }
        });
        let mut reply = Vec::new();
        if drain {
            deadline(client.read_to_end(&mut reply))
                .await
                .expect("no reset");
            assert_eq!(reply, b"reply");
            drop(client);
            let discarded = deadline(closing).await.expect("no panic");
            assert_eq!(discarded.expect("closed"), "ore than is read".len() as u64);
        } else {
            let _ = deadline(closing).await;
            let error = deadline(client.read_to_end(&mut reply)).await;
            let error = error.expect_err("a reset");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_end_delays_closing_only_so_long() {
    let patience = Duration::from_millis(50);
    let (client, server) = linked().await;
    let error = deadline(tcp::close(server, patience))
        .await
        .expect_err("patience ends");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(client);

    let (mut client, server) = linked().await;
    let endless = tokio::spawn(async move { while client.write_all(&[0; 4096]).await.is_ok() {} });
    let error = deadline(tcp::close(server, patience))
        .await
        .expect_err("patience ends");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    deadline(endless).await.expect("the sender is told");
}

#[tokio::test]
async fn a_write_to_a_closed_peer_fails_at_the_second_try() {
    let (mut client, server) = linked().await;
    drop(server);
    assert_eq!(deadline(client.read(&mut [0])).await.expect("the end"), 0);
    client.write_all(b"first").await.expect("it is taken");
    let mut second = io::Result::Ok(());
    deadline(async {
        while second.is_ok() {
            second = client.write_all(b"second").await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let errno = second.expect_err("it fails").raw_os_error();
    assert!(
        matches!(errno, Some(libc::EPIPE | libc::ECONNRESET)),
        "{errno:?}"
    );
}

#[tokio::test]
async fn a_restarted_server_can_bind_its_port_at_once() {
    let listener = tcp::bind(":0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let client = tcp::connect(at).await.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    drop(listener);
    // Closing first puts the server's side into TIME_WAIT.
    drop(server);
    let mut client = client;
    assert_eq!(deadline(client.read(&mut [0])).await.expect("the end"), 0);
    drop(client);

    let without = TcpSocket::new_v4().expect("a socket");
    without.set_reuseaddr(false).expect("an option");
    let error = without.bind(at).expect_err("TIME_WAIT");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    // With SO_REUSEADDR TIME_WAIT does not matter.
    let again = bind_soon(at).await;
    assert_eq!(again.local_addr().expect("bound"), at);
}

/// A port that closed connections hold: of a server without `SO_REUSEADDR` that closed first and is
/// gone. Its client has not closed yet.
async fn held_port() -> (TcpStream, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(false).expect("an option");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(any).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let at = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
    let mut client = client.expect("connected");
    drop((listener, accepted.expect("accepted")));
    assert_eq!(deadline(client.read(&mut [0])).await.expect("the end"), 0);
    (client, at)
}

/// It was said to stop the program that has the port, which is nobody.
#[tokio::test]
async fn a_port_that_closed_connections_hold_is_told_apart() {
    let (client, at) = held_port().await;
    let error = tcp::bind(at).await.expect_err("it is held");
    assert_eq!(error.kind(), &Kind::Lingering, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert!(error.to_string().contains("TIME_WAIT"), "{error}");
    drop(client);
    let error = tcp::bind(at).await.expect_err("TIME_WAIT");
    assert_eq!(error.kind(), &Kind::Lingering, "{error}");
    let listener = tcp::bind(":0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let error = tcp::bind(at).await.expect_err("a living server has it");
    assert_eq!(error.kind(), &Kind::InUse, "{error}");
}

#[tokio::test]
async fn bind_waits_for_closed_connections_if_asked_to() {
    let (client, at) = held_port().await;
    let mut options = BindOptions::new();
    options.wait(Duration::from_millis(30));
    let error = deadline(options.bind(at)).await.expect_err("it is held");
    assert_eq!(error.kind(), &Kind::Lingering, "{error}");
    let address: Endpoint = format!("tcp://{at}").parse().expect("an address");
    let mut binding = tokio_test::task::spawn(address.bind());
    tokio_test::assert_pending!(binding.poll());
    // A reset ends the connection on both sides.
    client.set_zero_linger().expect("an option");
    drop(client);
    drop(deadline(binding).await.expect("the port is free"));
}

#[tokio::test]
async fn the_futures_that_open_sockets_are_small() {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let tokios = size_of_val(&TcpStream::connect(at));
    let address: Endpoint = "tcp://127.0.0.1:1".parse().expect("an address");
    // With an address they hold the options as well.
    let address_limit = 320;
    for (name, size, limit) in [
        ("tcp::connect", size_of_val(&tcp::connect(at)), tokios),
        ("tcp::bind", size_of_val(&tcp::bind(at)), tokios),
        ("unix::connect", size_of_val(&unix::connect("/x")), tokios),
        (
            "Endpoint::connect",
            size_of_val(&address.connect()),
            address_limit,
        ),
        (
            "Endpoint::bind",
            size_of_val(&address.bind()),
            address_limit,
        ),
    ] {
        println!("{name}: {size} bytes, Tokio's {tokios}");
        assert!(size <= limit, "{name}: {size} bytes");
    }
}

#[tokio::test]
async fn each_failure_names_the_address_and_the_cure() {
    let listener = tcp::bind(":0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let error = tcp::bind(at).await.expect_err("taken");
    assert_eq!(error.kind(), &Kind::InUse, "{error}");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);

    let error = tcp::bind("192.0.2.1:0").await.expect_err("not ours");
    assert_eq!(error.kind(), &Kind::Other, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    assert!(error.to_string().contains("192.0.2.1:0"), "{error}");

    let error = tcp::bind("nonsense").await.expect_err("no port");
    assert_eq!(error.kind(), &Kind::InvalidName, "{error}");
    let error = tcp::connect("[::1:80").await.expect_err("no address");
    assert_eq!(error.kind(), &Kind::InvalidName, "{error}");

    // A group of hosts is no peer: tcp_v4_connect() in net/ipv4/tcp_ipv4.c. Where no route leads there it
    // is the same number.
    let error = deadline(tcp::connect("224.0.0.1:9")).await;
    let error = error.expect_err("no host");
    assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
    assert!(error.to_string().contains("224.0.0.1:9"), "{error}");

    // A host of this link, without saying which link; where there is no IPv6 there is no socket.
    let error = deadline(tcp::connect("[fe80::1]:9")).await;
    let error = error.expect_err("no scope");
    assert!(error.raw_os_error().is_some(), "{error:?}");
    assert!(error.to_string().contains("[fe80::1]:9"), "{error}");

    // A name that is looked up, without asking the network.
    let error = deadline(tcp::bind("a..b:0"))
        .await
        .expect_err("no such host");
    assert_eq!(error.kind(), &Kind::NotFound, "{error}");
    let named = tcp::bind("localhost:0")
        .await
        .expect("every machine has it");
    assert!(named.local_addr().expect("bound").ip().is_loopback());
}

#[tokio::test]
async fn a_privileged_port_is_refused_to_an_ordinary_user() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let start: u16 = start
        .ok()
        .and_then(|it| it.trim().parse().ok())
        .unwrap_or(1024);
    if start < 2 {
        eprintln!("skipped: every port is for everybody here");
        return;
    }
    Actor::spawn("tcp::role_unprivileged").succeed().await;
}

#[test]
fn role_unprivileged() {
    if !is_peer("tcp::role_unprivileged") {
        return;
    }
    let runtime = runtime();
    crate::actor::become_nobody();
    let error = runtime
        .block_on(tcp::bind("127.0.0.1:1"))
        .expect_err("privileged");
    assert_eq!(error.kind(), &Kind::PermissionDenied, "{error}");
    assert!(
        error.to_string().contains("CAP_NET_BIND_SERVICE"),
        "{error}"
    );
}

#[test]
fn without_a_runtime_opening_is_an_error_and_no_panic() {
    for result in [
        assert_ready!(tokio_test::task::spawn(tcp::bind(":0")).poll()).map(drop),
        assert_ready!(tokio_test::task::spawn(tcp::connect(":1")).poll()).map(drop),
    ] {
        assert_eq!(result.expect_err("no runtime").kind(), &Kind::NoRuntime);
    }
}

#[tokio::test]
async fn only_a_listening_descriptor_is_taken_over() {
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = foreign.local_addr().expect("bound");
    let listener = tcp::Listener::try_from(OwnedFd::from(foreign)).expect("it listens");
    let client = tcp::connect(at).await.expect("connected");
    let (server, _) = deadline(listener.accept()).await.expect("accepted");
    assert!(server.nodelay().expect("an option"));

    let stream = OwnedFd::from(client.into_std().expect("a socket"));
    let unix = std::os::unix::net::UnixStream::pair().expect("a pair").0;
    for wrong in [stream, unix.into()] {
        let error = tcp::Listener::try_from(wrong).expect_err("not a TCP listener");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let file = std::fs::File::open("/dev/null").expect("every system has it");
    let error = tcp::Listener::try_from(OwnedFd::from(file)).expect_err("no socket");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
}

/// Another holder of the socket has shut it down: it will never accept again, and that is no reason to try
/// for ever.
#[tokio::test]
async fn a_listener_that_was_shut_down_fails_once_and_ends() {
    let mut listener = tcp::bind("127.0.0.1:0").await.expect("a port");
    let shared = SockRef::from(&listener);
    shared
        .shutdown(std::net::Shutdown::Both)
        .expect("it listens");
    let error = deadline(listener.accept()).await.expect_err("shut down");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    let error = deadline(listener.next()).await.expect("it is told");
    assert_eq!(
        error.expect_err("shut down").raw_os_error(),
        Some(libc::EINVAL)
    );
    assert!(deadline(listener.next()).await.is_none());
}
