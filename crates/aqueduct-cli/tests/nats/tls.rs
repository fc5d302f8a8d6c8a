//! Servers that require TLS, and clocks that are wrong.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use aqueduct::codec::Text;
use aqueduct::connect::Options;
use aqueduct::{OpenError, OpenErrorKind};
use aqueduct_conformance::deadline;
use futures_util::SinkExt;

use crate::certificates::{Authority, expired, not_yet_valid};
use crate::server::Server;
use crate::{JOBS, endpoint, next, receiver, sender};

/// A server with the certificate `name`, and more options of its TLS.
fn serving(authority: &Authority, name: &str, more: &str) -> Server {
    let file = |name: &str| authority.path(name).display().to_string();
    let (cert, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
    Server::configured(&format!(
        "jetstream: {{}}\ntls {{ cert_file: {cert:?}, key_file: {key:?}, {more} }}"
    ))
}

/// Verifies clients.
fn verifying(authority: &Authority) -> String {
    format!(
        "ca_file: {:?}, verify: true",
        authority.path("ca.pem").display().to_string()
    )
}

/// Why an address is not opened. It is no reason to wait.
async fn refused(address: &str) -> OpenError {
    let endpoint = endpoint(address);
    let mut options = Options::new();
    options.wait(Duration::from_secs(3600));
    let opened = deadline(options.open_sender(&endpoint)).await;
    opened.expect_err(address)
}

async fn is_refused(address: &str, kind: OpenErrorKind, words: &str) {
    let error = refused(address).await;
    assert_eq!(error.kind(), &kind, "{address}: {error}");
    assert!(error.to_string().contains(words), "{address}: {error}");
}

#[tokio::test]
async fn messages_and_requests_pass_over_tls() {
    let authority = Authority::with_both();
    let server = serving(&authority, "server", &verifying(&authority));
    let files = format!("{}&{}", authority.trusting(), authority.showing("client"));
    let address = server.at(&format!("{JOBS}&{files}"));
    let mut outgoing = sender(&address).await;
    deadline(outgoing.send("hello".into()))
        .await
        .expect("it is stored");
    let mut incoming = receiver(&address).await;
    let mut message = next(&mut incoming).await;
    assert_eq!(message.body(), "hello");
    message.take_receipt().expect("it has one").settle();
    let service = endpoint(&server.at(&format!("svc?{files}")));
    let mut listener = deadline(service.bind()).await.expect("it is there");
    let asking = async {
        let asking = service.connect().await.expect("it is there");
        let mut asking = asking.channel::<String, String>(Text);
        asking.call("who".into()).await.expect("it is answered")
    };
    let answering = async {
        let request = listener.accept().await.expect("it goes on");
        let mut request = request
            .expect("it is there")
            .channel::<String, String>(Text);
        let text = request
            .recv()
            .await
            .expect("it goes on")
            .expect("it is whole");
        request.send(text.to_uppercase()).await.expect("it is sent");
    };
    let (reply, ()) = deadline(async { tokio::join!(asking, answering) }).await;
    assert_eq!(reply, "WHO");
}

#[tokio::test]
async fn a_certificate_that_a_client_refuses_is_an_error_at_once() {
    let authority = Authority::with_both();
    let other = Authority::new();
    authority.issue("elsewhere", |params| {
        let name = "elsewhere.test".try_into().expect("a name");
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
    });
    // The same as a clock that is late or early.
    authority.issue("ended", expired);
    authority.issue("begins", not_yet_valid);
    let trusted = authority.trusting();
    for (certificate, files, words) in [
        ("server", other.trusting(), "ca="),
        // The CAs of the system do not know it.
        ("server", "tls=true".to_owned(), "name the CA"),
        (
            "elsewhere",
            trusted.clone(),
            "a name that the server's certificate has",
        ),
        ("ended", trusted.clone(), "set the clock"),
        ("begins", trusted.clone(), "set the clock"),
    ] {
        let server = serving(&authority, certificate, "");
        let address = server.at(&format!("jobs?{files}"));
        is_refused(&address, OpenErrorKind::Mismatch, words).await;
    }
}

#[tokio::test]
async fn a_certificate_that_a_server_refuses_is_an_error_at_once() {
    let authority = Authority::with_both();
    let other = Authority::with_both();
    authority.issue("ended", expired);
    let server = serving(&authority, "server", &verifying(&authority));
    let trusted = authority.trusting();
    for (shown, words) in [
        (String::new(), "the server refused the TLS connection"),
        (
            other.showing("client"),
            "the server refused the TLS connection",
        ),
        (
            authority.showing("ended"),
            "the server refused the TLS connection",
        ),
    ] {
        let address = server.at(&format!("jobs?{trusted}&{shown}"));
        is_refused(
            address.trim_end_matches('&'),
            OpenErrorKind::PermissionDenied,
            words,
        )
        .await;
    }
}

#[tokio::test]
async fn tls_that_is_asked_for_is_never_left_out() {
    let authority = Authority::with_both();
    let plain = Server::new();
    for files in ["tls=true".to_owned(), authority.trusting()] {
        let error = refused(&plain.at(&format!("jobs?{files}"))).await;
        assert_eq!(error.kind(), &OpenErrorKind::Mismatch, "{error}");
    }
    let server = serving(&authority, "server", "");
    // It requires TLS, whether the address says so or not.
    is_refused(&server.at("jobs"), OpenErrorKind::Mismatch, "name the CA").await;
    let file = |name: &str| authority.path(name).display().to_string();
    for (files, words) in [
        (format!("ca={}", file("none.pem")), "none.pem"),
        (format!("ca={}", file("server.key")), "TLS"),
        (format!("cert={}", file("client.pem")), "key="),
        (
            format!(
                "{}&cert={}&key={}",
                authority.trusting(),
                file("client.pem"),
                file("server.key")
            ),
            "TLS",
        ),
    ] {
        let error = refused(&server.at(&format!("jobs?{files}"))).await;
        assert!(error.to_string().contains(words), "{files}: {error}");
    }
}

/// Runs a command whose clock is wrong by a year, and returns what it prints.
fn run_with_clock(clock: &str, arguments: &[&str], input: &str, code: i32) -> String {
    let mut command = Command::new("faketime");
    // The clock of time limits only goes on.
    command.args(["--exclude-monotonic", clock, env!("CARGO_BIN_EXE_aqueduct")]);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().expect("faketime is installed");
    let mut stdin = running.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = running.wait_with_output().expect("it is a child");
    assert_eq!(output.status.code(), Some(code), "{clock}: {arguments:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// Nothing is lost, doubled, or settled too early or late.
#[tokio::test]
async fn the_clock_of_a_client_may_be_wrong_by_a_year() {
    let server = Server::new();
    drop(receiver(&server.at(JOBS)).await);
    drop(sender(&server.at("copies?stream=COPIES&create=true")).await);
    let to = server.at("jobs?stream=JOBS");
    let from = server.at("jobs?stream=JOBS&consumer=work");
    let copies = server.at("copies?stream=COPIES");
    let numbers: String = (0..200).map(|it| format!("{it}\n")).collect();
    run_with_clock("1 year ago", &["send", &to], &numbers, 0);
    let received = run_with_clock("1 year", &["recv", &from, "-n", "200"], "", 0);
    assert_eq!(received, numbers);
    assert_eq!(server.unfinished("JOBS", "work").await, 0);
    for clock in ["1 year ago", "1 year"] {
        // The second stores nothing again: the ids are those of the source.
        let from = server.at("jobs?stream=JOBS&create=true&consumer=");
        let from = from + &clock.replace(' ', "-");
        let relay = ["relay", &from, &copies, "--timeout", "1s"];
        run_with_clock(clock, &relay, "", 3);
        assert_eq!(server.messages("COPIES").await, 200, "{clock}");
    }
}
