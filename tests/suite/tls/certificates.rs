//! Certificates that are refused, too large or have hostile subjects.

use std::sync::Arc;

use aqueduct::Endpoint;
use aqueduct::connect::Peer;
use aqueduct::tls::{TlsError, TlsErrorKind as Kind};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::files::{Authority, expired};
use super::{bound, first, greeting, kind, options, port, refused, to};
use crate::support::{Log, deadline};

fn verifying(authority: &Authority) -> String {
    format!("&client-ca={}", authority.path("ca.pem").display())
}

/// Options of a client that verifies the server by `authority` and shows `certificate` of `issuer`.
fn client_of(authority: &Authority, issuer: &Authority, certificate: &str) -> String {
    format!("{}&{}", authority.trusting(), issuer.showing(certificate))
}

#[tokio::test]
async fn a_client_whose_certificate_is_refused_learns_the_reason() {
    let authority = Authority::with_both();
    let other = Authority::with_both();
    authority.issue("ended", expired);
    for (issuer, certificate, there, here) in [
        (&authority, "ended", "it has expired", "it has expired"),
        // The CAs have the same name.
        (&other, "client", "of another CA", "does not trust"),
    ] {
        let (log, _recording) = Log::start();
        let listener = bound(&authority, &verifying(&authority)).await;
        let more = client_of(&authority, issuer, certificate);
        let address = to(&listener, "localhost", &more);
        let serving = greeting(listener);
        let client = options().connect(&address).await.expect("connected");
        let error = first(client).await.expect_err("refused");
        assert_eq!(
            TlsError::of(&error).map(TlsError::kind),
            Some(&Kind::Refused)
        );
        assert!(error.to_string().contains(there), "{error}");
        let log = log.text();
        let line = log.lines().find(|it| it.contains("was disconnected"));
        let line = line.expect("it is logged");
        assert!(line.contains("the client's certificate"), "{line}");
        assert!(line.contains(here), "{line}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_plain_client_is_named_in_the_log_and_costs_nobody_else() {
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    let listener = bound(&authority, "").await;
    let at = port(&listener);
    let address = to(&listener, "localhost", &authority.trusting());
    let serving = greeting(listener);
    let mut plain = TcpStream::connect(("127.0.0.1", at))
        .await
        .expect("connected");
    plain.write_all(b"hello\nhello\n").await.expect("written");
    log.until("the client does not speak TLS; use tls: on both sides")
        .await;
    let client = options().connect(&address).await.expect("connected");
    assert_eq!(first(client).await.expect("a line"), "hello");
    serving.abort();
}

#[tokio::test]
async fn a_server_that_echoes_is_an_error_and_no_wait() {
    let authority = Authority::with_both();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let address = format!("tls://{at}?{}", authority.trusting());
    let address: Endpoint = address.parse().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    assert_eq!(kind(refused(&address).await), Kind::Protocol);
    drop(serving.await);
}

/// A certificate of 10 MB, with its key, unchecked.
fn large(authority: &Authority) -> Arc<SingleCertAndKey> {
    authority.issue("large", |params: &mut CertificateParams| {
        let padding = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![7; 10 << 20]);
        params.custom_extensions.push(padding);
    });
    let chain = CertificateDer::from_pem_file(authority.path("large.pem")).expect("PEM");
    assert!(chain.len() > 10 << 20);
    let key = PrivateKeyDer::from_pem_file(authority.path("large.key")).expect("PEM");
    let key = crypto::ring::sign::any_supported_type(&key).expect("a key");
    Arc::new(CertifiedKey::new(vec![chain], key).into())
}

fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

#[tokio::test]
async fn a_servers_certificate_of_10_mb_is_refused() {
    let authority = Authority::new();
    let large = large(&authority);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(large);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound").port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    });
    let address = format!("tls://localhost:{at}?{}", authority.trusting());
    let error = refused(&address.parse().expect("an address")).await;
    let text = error.to_string();
    assert!(text.contains("more than 64 KiB"), "{text}");
    assert_eq!(kind(error), Kind::Certificate);
    assert!(deadline(serving).await.expect("it ends").is_err());
}

#[tokio::test]
async fn a_clients_certificate_of_10_mb_is_refused() {
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    let large = large(&authority);
    let listener = bound(&authority, &verifying(&authority)).await;
    let at = port(&listener);
    let more = client_of(&authority, &authority, "client");
    let address = to(&listener, "localhost", &more);
    let serving = greeting(listener);
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.path("ca.pem")).expect("PEM");
    roots.add(ca).expect("a CA");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_cert_resolver(large);
    let stream = TcpStream::connect(("127.0.0.1", at))
        .await
        .expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let cut = async {
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        stream.read_u8().await
    };
    assert!(deadline(cut).await.is_err());
    log.until("a handshake message of more than 64 KiB").await;
    let client = options().connect(&address).await.expect("connected");
    assert_eq!(first(client).await.expect("a line"), "hello");
    serving.abort();
}

fn named(common_name: impl Into<DnValue>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[tokio::test]
async fn a_hostile_subject_is_escaped() {
    let authority = Authority::with_both();
    let mut listener = bound(&authority, &verifying(&authority)).await;
    let bmp = rcgen::string::BmpString::try_from("admin").expect("UCS-2");
    for (name, expected) in [
        (named("a\0b"), "CN=a\\00b"),
        (named("a\nCN=root"), "CN=a\\0aCN=root"),
        (named("\x1b[31mred"), "CN=\\1b[31mred"),
        // The same in one character (C1), and what reverses the text behind it.
        (named("\u{9b}31mred"), "CN=\\c2\\9b31mred"),
        (
            named("a\u{202e}b\u{200b}c"),
            "CN=a\\e2\\80\\aeb\\e2\\80\\8bc",
        ),
        (named("admin,O=Root+x=y"), "CN=admin\\,O=Root\\+x=y"),
        (named("a=b"), "CN=a=b"),
        (named("näme \u{1f600}"), "CN=näme \u{1f600}"),
        (
            named(DnValue::BmpString(bmp)),
            "2.5.4.3=#1e0a00610064006d0069006e",
        ),
        (named(""), "CN="),
        (DistinguishedName::new(), ""),
        (named("x".repeat(4093)), &format!("CN={}", "x".repeat(4093))),
    ] {
        authority.issue("hostile", |params| params.distinguished_name = name);
        let more = client_of(&authority, &authority, "hostile");
        let address = to(&listener, "localhost", &more);
        let connecting = options();
        let both = async { tokio::join!(connecting.connect(&address), listener.accept()) };
        let (client, server) = deadline(both).await;
        drop(client.expect("connected"));
        let server = server.expect("one").expect("accepted");
        let Peer::Certified { subject, .. } = server.peer() else {
            panic!("{:?}", server.peer());
        };
        assert_eq!(&**subject, expected);
    }
}

#[tokio::test]
async fn a_certificate_with_a_huge_subject_is_refused() {
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    authority.issue("huge", |params| {
        params.distinguished_name = named("x".repeat(4094));
    });
    let words = "its subject has 4097 bytes, and at most 4096 are accepted";
    let listener = bound(&authority, &verifying(&authority)).await;
    let address = to(
        &listener,
        "localhost",
        &client_of(&authority, &authority, "huge"),
    );
    let serving = greeting(listener);
    let client = options().connect(&address).await.expect("connected");
    first(client).await.expect_err("refused");
    log.until(words).await;
    serving.abort();

    let address = format!("tls://127.0.0.1:0?{}", authority.showing("huge"));
    let address: Endpoint = address.parse().expect("an address");
    let listener = options().bind(&address).await.expect("bound");
    let address = to(&listener, "localhost", &authority.trusting());
    let serving = greeting(listener);
    let error = refused(&address).await;
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(kind(error), Kind::Certificate);
    serving.abort();
}
