//! `aqueduct doctor nats://…`.

use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::server::Server;
use crate::{receiver, sender};

/// What it prints for an address, and its exit code.
fn doctor(address: &str) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    let output = command.args(["doctor", address, "--json"]).output();
    let output = output.expect("it can be run");
    let text = String::from_utf8(output.stdout).expect("it is text");
    (text, output.status.code().expect("it ends"))
}

fn state(text: &str, check: &str) -> String {
    let line = text
        .lines()
        .find(|it| it.contains(&format!("\"check\":\"{check}\"")));
    let line = line.unwrap_or_else(|| panic!("{check} is missing: {text}"));
    let (_, state) = line.split_once("\"state\":\"").expect("it has a state");
    state.split('"').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn doctor_says_what_a_stream_and_its_consumer_promise() {
    let server = Server::new();
    let address = server.at("jobs?stream=JOBS&consumer=work&create=true");
    let (text, code) = doctor(&address);
    assert_eq!(
        (state(&text, "stream").as_str(), code),
        ("bad", 1),
        "nothing is created: {text}"
    );
    drop(sender(&address).await);
    drop(receiver(&address).await);
    let (text, code) = doctor(&address);
    for check in [
        "address",
        "server",
        "largest_message",
        "jetstream",
        "stream",
        "storage",
        "retention",
        "full",
        "duplicate_window",
        "replicas",
        "consumer",
        "ack_wait",
    ] {
        assert_eq!(state(&text, check), "ok", "{check}: {text}");
    }
    assert_eq!(code, 0, "{text}");
    let (text, code) = doctor(&server.at("other?stream=JOBS"));
    assert_eq!(
        (state(&text, "subject").as_str(), code),
        ("bad", 1),
        "{text}"
    );
    let (text, code) = doctor(&server.at("jobs?stream=JOBS&consumer=work&window=2000"));
    assert_eq!(
        (state(&text, "max_ack_pending").as_str(), code),
        ("low", 0),
        "{text}"
    );
}

/// A stream that others have configured, with what weakens the promise.
#[tokio::test]
async fn doctor_says_what_weakens_the_promise_of_a_stream() {
    let server = Server::new();
    let context = server.jetstream().await;
    let created = context.create_stream(Config {
        name: "JOBS".to_owned(),
        subjects: vec!["jobs".to_owned()],
        storage: StorageType::Memory,
        retention: RetentionPolicy::Interest,
        discard: DiscardPolicy::Old,
        max_messages: 5,
        max_age: Duration::from_secs(60),
        duplicate_window: Duration::from_secs(1),
        ..Config::default()
    });
    created.await.expect("it is created");
    let (text, code) = doctor(&server.at("jobs?stream=JOBS"));
    for check in ["storage", "retention", "full", "max_age"] {
        assert_eq!(state(&text, check), "low", "{check}: {text}");
    }
    assert!(text.contains("the oldest messages are lost"), "{text}");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn doctor_says_what_core_nats_does_not_promise() {
    let mut server = Server::with(&[]);
    let (text, code) = doctor(&server.at("jobs"));
    assert_eq!(
        (state(&text, "jetstream").as_str(), code),
        ("low", 0),
        "{text}"
    );
    let (text, code) = doctor(&server.at("jobs?stream=JOBS"));
    assert_eq!(
        (state(&text, "jetstream").as_str(), code),
        ("bad", 1),
        "{text}"
    );
    server.kill();
    let (text, code) = doctor(&server.at("jobs"));
    assert_eq!(
        (state(&text, "address").as_str(), code),
        ("bad", 1),
        "{text}"
    );
    assert!(text.contains("start the server"), "{text}");
}
