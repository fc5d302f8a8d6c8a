//! TLS: certificates, handshakes, ends and errors.

mod certificates;
pub(crate) mod files;
mod handshakes;

use std::io;
use std::time::Duration;

use aqueduct::codec::Text;
use aqueduct::connect::{Connection, Listener, Options, Peer};
use aqueduct::frame::Framing;
use aqueduct::tls::{TlsError, TlsErrorKind as Kind};
use aqueduct::{Endpoint, OpenError, OpenErrorKind};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::files::{Authority, expired, not_yet_valid};
use crate::support::deadline;

fn options() -> Options {
    let mut options = Options::new();
    options.framing(Framing::lines());
    options
}

async fn bound(authority: &Authority, more: &str) -> Listener {
    let address = format!("tls://127.0.0.1:0?{}{more}", authority.showing("server"));
    let address: Endpoint = address.parse().expect("an address");
    options().bind(&address).await.expect("bound")
}

/// The port that it listens on.
fn port(listener: &Listener) -> u16 {
    let address = listener.local_endpoint().to_string();
    let address = address.split('?').next().expect("it has one");
    let port = address.rsplit(':').next().expect("it has a port");
    port.parse().expect("a number")
}

fn to(listener: &Listener, host: &str, more: &str) -> Endpoint {
    let address = format!("tls://{host}:{}?{more}", port(listener));
    address.parse().expect("an address")
}

/// Accepts clients and sends each a line, for as long as it is held.
fn greeting(mut listener: Listener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(client) = listener.accept().await {
            let (mut sink, _stream) = client.expect("accepted").into_frames();
            let _ = sink.send("hello".into()).await;
            let _ = sink.close().await;
        }
    })
}

async fn first(connection: Connection) -> io::Result<Bytes> {
    let (_sink, mut stream) = connection.into_frames();
    deadline(stream.next()).await.expect("an item")
}

async fn refused(address: &Endpoint) -> OpenError {
    let connected = deadline(options().connect(address)).await;
    connected.expect_err("the handshake fails")
}

fn kind(error: OpenError) -> Kind {
    let error = io::Error::from(error);
    let kind = TlsError::of(&error).map(|it| it.kind().clone());
    kind.unwrap_or_else(|| panic!("no error of TLS: {error}"))
}

#[tokio::test]
async fn both_sides_learn_the_subject_of_a_verified_certificate() {
    let authority = Authority::with_both();
    let verify = format!("&client-ca={}", authority.path("ca.pem").display());
    let mut listener = bound(&authority, &verify).await;
    let more = format!("{}&{}", authority.trusting(), authority.showing("client"));
    let address = to(&listener, "localhost", &more);
    let connecting = options();
    let (client, server) =
        deadline(async { tokio::join!(connecting.connect(&address), listener.accept()) }).await;
    let client = client.expect("connected");
    let server = server.expect("one").expect("accepted");
    for (connection, expected) in [(&client, "CN=server"), (&server, "CN=client")] {
        let Peer::Certified { subject, address } = connection.peer() else {
            panic!("{:?}", connection.peer());
        };
        assert_eq!(&**subject, expected);
        assert!(address.ip().is_loopback());
        assert!(
            connection
                .peer()
                .to_string()
                .ends_with(&format!("({expected})"))
        );
    }
    let mut client = client.channel::<String, String>(Text);
    let mut server = server.channel::<String, String>(Text);
    client.send("hello".into()).await.expect("sent");
    let got = deadline(server.recv()).await.expect("one").expect("text");
    assert_eq!(got, "hello");
    // Each direction ends by itself.
    client.close().await.expect("closed");
    assert!(deadline(server.recv()).await.is_none());
    drop((client, server));
}

#[tokio::test]
async fn a_client_says_what_is_wrong_with_the_servers_certificate() {
    let authority = Authority::new();
    let other = Authority::new();
    authority.issue("ended", expired);
    authority.issue("early", not_yet_valid);
    authority.issue("server", |_| {});
    authority.issue("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("example.org".try_into().unwrap())];
    });
    let trusting = authority.trusting();
    for (certificate, trusting, expected, words) in [
        ("ended", &trusting, Kind::Expired, "has expired"),
        ("early", &trusting, Kind::NotYetValid, "not valid yet"),
        ("elsewhere", &trusting, Kind::WrongName, "example.org"),
        (
            "server",
            &other.trusting(),
            Kind::UnknownIssuer,
            "does not trust",
        ),
    ] {
        let address = format!("tls://127.0.0.1:0?{}", authority.showing(certificate));
        let address: Endpoint = address.parse().expect("an address");
        let listener = address.bind().await.expect("bound");
        let client = to(&listener, "localhost", trusting);
        let serving = greeting(listener);
        let error = refused(&client).await;
        assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("server"), "{text}");
        assert_eq!(kind(error), expected, "{text}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_learns_that_it_needs_one() {
    let authority = Authority::with_both();
    let verify = format!("&client-ca={}", authority.path("ca.pem").display());
    let listener = bound(&authority, &verify).await;
    let address = to(&listener, "localhost", &authority.trusting());
    let serving = greeting(listener);
    // In TLS 1.3 the client is connected before the server looks at its certificate.
    let client = options().connect(&address).await.expect("connected");
    let error = first(client).await.expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    assert_eq!(
        TlsError::of(&error).map(TlsError::kind),
        Some(&Kind::Refused)
    );
    assert!(
        error.to_string().contains("requires a certificate"),
        "{error}"
    );
    serving.abort();
}

#[tokio::test]
async fn a_plain_server_and_a_silent_one_are_told_apart() {
    let authority = Authority::with_both();
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = plain.local_addr().expect("bound");
    let address = format!("tls://{at}?{}", authority.trusting());
    let address: Endpoint = address.parse().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a client");
        stream.write_all(b"220 ready\r\n").await.expect("written");
        let (silent, _) = plain.accept().await.expect("a client");
        let (closing, _) = plain.accept().await.expect("a client");
        drop(closing);
        (stream, silent)
    });
    assert_eq!(kind(refused(&address).await), Kind::Plaintext);
    let mut hasty = options();
    let limit = Duration::from_millis(50);
    hasty.wait(limit);
    let error = hasty.connect(&address).await.expect_err("silent");
    assert!(
        matches!(error.kind(), OpenErrorKind::TimedOut { .. }),
        "{error}"
    );
    assert_eq!(kind(error), Kind::Silent(limit));
    let error = refused(&address).await;
    let text = error.to_string();
    assert_eq!(kind(error), Kind::Torn, "{text}");
    drop(serving.await);
}

#[tokio::test]
async fn a_client_that_breaks_the_handshake_delays_no_other() {
    let authority = Authority::with_both();
    let listener = bound(&authority, "").await;
    let at = ("127.0.0.1", port(&listener));
    let address = to(&listener, "localhost", &authority.trusting());
    let serving = greeting(listener);
    let silent = TcpStream::connect(at).await.expect("connected");
    let mut plain = TcpStream::connect(at).await.expect("connected");
    plain
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    drop(TcpStream::connect(at).await.expect("connected"));
    let client = options().connect(&address).await.expect("connected");
    assert_eq!(first(client).await.expect("a line"), "hello");
    // It gets an alert, and then the end.
    let mut answer = Vec::new();
    let _ = deadline(plain.read_to_end(&mut answer)).await;
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    drop(silent);
    serving.abort();
}

#[tokio::test]
async fn a_cut_connection_is_an_error_and_no_end() {
    let authority = Authority::with_both();
    let mut listener = bound(&authority, "").await;
    let address = to(&listener, "localhost", &authority.trusting());
    // Between the two, so that the cut is one of TCP.
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = ("127.0.0.1", port(&listener));
    let at = between.local_addr().expect("bound").port();
    let relaying = tokio::spawn(async move {
        let (mut client, _) = between.accept().await.expect("a client");
        let mut server = TcpStream::connect(there).await.expect("the server");
        let (stop, mut stopped) = tokio::sync::mpsc::channel::<()>(1);
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = stopped.recv() => {}
            }
        });
        stop
    });
    let _ = address;
    let address = format!("tls://localhost:{at}?{}", authority.trusting());
    let address: Endpoint = address.parse().expect("an address");
    let connecting = options();
    let (client, server) =
        deadline(async { tokio::join!(connecting.connect(&address), listener.accept()) }).await;
    let (_sink, mut stream) = client.expect("connected").into_frames();
    let (mut sink, _stream) = server.expect("one").expect("accepted").into_frames();
    sink.send("whole".into()).await.expect("sent");
    let got = deadline(stream.next()).await.expect("an item");
    assert_eq!(got.expect("whole"), "whole");
    drop(relaying.await.expect("it runs"));
    let error = deadline(stream.next()).await.expect("no silent end");
    let error = error.expect_err("torn");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    assert_eq!(TlsError::of(&error).map(TlsError::kind), Some(&Kind::Torn));
}

/// As by a proxy whose other side broke.
#[tokio::test]
async fn a_reset_connection_is_an_error_and_no_end() {
    let authority = Authority::with_both();
    let mut listener = bound(&authority, "").await;
    let address = to(&listener, "localhost", &authority.trusting());
    let connecting = options();
    let (client, server) =
        deadline(async { tokio::join!(connecting.connect(&address), listener.accept()) }).await;
    let client = client.expect("connected");
    let server = server.expect("one").expect("accepted").into_bytes();
    server.expect("it has bytes").reset();
    let error = first(client).await.expect_err("reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn changed_certificates_are_used_for_new_connections() {
    let authority = Authority::with_both();
    let mut listener = bound(&authority, "").await;
    let address = to(&listener, "localhost", &authority.trusting());
    let connecting = options();
    let mut subject = async || {
        let both = async { tokio::join!(connecting.connect(&address), listener.accept()) };
        let (client, server) = deadline(both).await;
        let (client, _server) = (
            client.expect("connected"),
            server.expect("one").expect("accepted"),
        );
        client.peer().to_string()
    };
    assert!(subject().await.ends_with("(CN=server)"));
    authority.issue("second", |_| {});
    // First the certificate: its key is still the old one.
    std::fs::rename(authority.path("second.pem"), authority.path("server.pem")).expect("renamed");
    assert!(subject().await.ends_with("(CN=server)"));
    std::fs::rename(authority.path("second.key"), authority.path("server.key")).expect("renamed");
    assert!(subject().await.ends_with("(CN=second)"));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_the_reason() {
    let authority = Authority::with_both();
    authority.issue("other", |_| {});
    let file = |name: &str, text: &[u8]| {
        std::fs::write(authority.path(name), text).expect("written");
        authority.path(name).display().to_string()
    };
    let large = file("large", &vec![b'x'; 10 << 20]);
    let text = file("text", b"no PEM here\n");
    let dir = authority.path("");
    let dir = dir.to_str().expect("text").trim_end_matches('/');
    for (options, words) in [
        (String::new(), "a server needs a certificate"),
        (format!("cert={large}"), "more than 1 MiB"),
        (format!("cert={text}"), "no certificate in PEM form"),
        (format!("cert={dir}/none.pem"), "No such file"),
        (format!("cert={dir}"), "not a regular file"),
        (format!("cert={dir}/server.pem"), "has no private key"),
        (
            format!("cert={dir}/server.pem&key={dir}/other.key"),
            "does not belong to the certificate",
        ),
        (
            format!("{}&ca={dir}/ca.pem", authority.showing("server")),
            "ca= is for clients",
        ),
    ] {
        let address: Endpoint = format!("tls://127.0.0.1:0?{options}")
            .trim_end_matches('?')
            .parse()
            .expect("an address");
        let error = address.bind().await.expect_err("unusable").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn sides_without_a_common_protocol_refuse_each_other() {
    let authority = Authority::with_both();
    let listener = bound(&authority, "&alpn=jobs,http/1.1").await;
    let fits = to(
        &listener,
        "localhost",
        &format!("{}&alpn=http/1.1", authority.trusting()),
    );
    let differs = to(
        &listener,
        "localhost",
        &format!("{}&alpn=h2", authority.trusting()),
    );
    let serving = greeting(listener);
    let client = options().connect(&fits).await.expect("connected");
    assert_eq!(first(client).await.expect("a line"), "hello");
    let error = refused(&differs).await;
    assert!(error.to_string().contains("alpn="), "{error}");
    assert_eq!(kind(error), Kind::Refused);
    serving.abort();
}

#[test]
fn an_address_prints_as_it_was_parsed() {
    let text = "tls://[::1]:443?alpn=h2,http/1.1&ca=/a%20b&cert=/c%26d&client-ca=e&key=f&name=g.example&nodelay=false";
    let address: Endpoint = text.parse().expect("an address");
    assert_eq!(address.to_string(), text);
    for (wrong, words) in [
        ("tls://host:1?ca=", "PEM file"),
        ("tls://host:1?name=a%20b", "host name"),
        ("tls://host:1?alpn=a,,b", "commas"),
    ] {
        let error = wrong.parse::<Endpoint>().expect_err(wrong).to_string();
        assert!(error.contains(words), "{error}");
    }
}
