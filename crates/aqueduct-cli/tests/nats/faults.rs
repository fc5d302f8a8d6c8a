//! Servers that fail in other ways than by being killed, and refuse what is asked of them.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use aqueduct::OpenErrorKind;
use aqueduct::connect::Message;
use aqueduct_conformance::deadline;
use async_nats::jetstream::stream::Config;
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;

use crate::cuts::Forwarder;
use crate::kills::{Fate, Numbers};
use crate::server::Server;
use crate::{JOBS, endpoint, next, receiver, sender};

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_is_replaced_without_loss() {
    let config = "lame_duck_grace_period: 100ms\nlame_duck_duration: 30s\njetstream: {}\n";
    let mut server = Server::configured(config);
    let numbers = Numbers::send(&server.at("jobs?stream=JOBS&create=true")).await;
    numbers.reach(1000).await;
    tokio::task::block_in_place(|| {
        server.signal(Signal::SIGUSR2);
        server.wait();
        server.start_again();
    });
    numbers.reach(1000).await;
    let (fate, _) = numbers.fate(&server).await;
    assert_eq!(fate, Fate::default());
}

/// The first stall is longer than an acknowledgement may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_server_loses_doubles_and_reorders_nothing() {
    let mut server = Server::new();
    let numbers = Numbers::send(&server.at("jobs?stream=JOBS&create=true")).await;
    numbers.reach(1000).await;
    server.stall();
    tokio::time::sleep(Duration::from_secs(12)).await;
    server.signal(Signal::SIGCONT);
    numbers.reach(1000).await;
    server.stall();
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::task::block_in_place(|| server.restart());
    numbers.reach(1000).await;
    let (fate, _) = numbers.fate(&server).await;
    assert_eq!(fate, Fate::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_new_stream_are_not_taken_for_old_ones() {
    let server = Server::new();
    let address = server.at(JOBS);
    new_stream(server, &address, || ()).await;
}

/// The first connection after the restart breaks between the stream and the consumer.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_is_noticed_after_a_failed_attempt() {
    let server = Server::new();
    let forwarder = Forwarder::new(&server).await;
    let address = forwarder.at(JOBS);
    new_stream(server, &address, || forwarder.cut_at("CONSUMER.INFO")).await;
    assert!(forwarder.has_cut());
}

/// The new stream numbers its messages from 1 again. A receiver that took them for those that it has
/// settled would settle them unseen.
async fn new_stream(mut server: Server, address: &str, before: impl FnOnce()) {
    let mut outgoing = sender(&server.at(JOBS)).await;
    let mut incoming = receiver(address).await;
    let mut held = None;
    for number in 0..3 {
        let message = Message::new(number.to_string());
        deadline(outgoing.send(message))
            .await
            .expect("it is stored");
        let mut message = next(&mut incoming).await;
        let receipt = message.take_receipt().expect("it has one");
        match number {
            0 => held = Some(receipt),
            _ => receipt.settle(),
        }
    }
    before();
    tokio::task::block_in_place(|| server.restart_empty());
    for number in 3..6 {
        let message = Message::new(number.to_string());
        deadline(outgoing.send(message))
            .await
            .expect("it is stored");
    }
    let mut first = next(&mut incoming).await;
    assert_eq!(first.body(), "3");
    // That of the message with its number is not its own.
    held.expect("it was kept").settle();
    for number in 4..6 {
        let mut message = next(&mut incoming).await;
        assert_eq!(message.body(), number.to_string().as_bytes());
        message.take_receipt().expect("it has one").settle();
    }
    drop(first.take_receipt());
    let mut again = next(&mut incoming).await;
    assert_eq!(again.body(), "3");
    again.take_receipt().expect("it has one").settle();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone_is_an_error_unless_it_may_be_created() {
    let mut server = Server::new();
    drop(sender(&server.at(JOBS)).await);
    let mut outgoing = sender(&server.at("jobs?stream=JOBS")).await;
    tokio::task::block_in_place(|| server.restart_empty());
    let error = deadline(outgoing.send("hello".into())).await;
    let error = error.expect_err("there is no stream");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("create=true"), "{error}");
}

#[tokio::test]
async fn a_deleted_consumer_or_stream_ends_its_receiver() {
    let server = Server::new();
    drop(sender(&server.at(JOBS)).await);
    for deletes_stream in [false, true] {
        let mut incoming = receiver(&server.at(JOBS)).await;
        let context = server.jetstream().await;
        if deletes_stream {
            let deleted = context.delete_stream("JOBS").await;
            deleted.expect("it is there");
        } else {
            let stream = context.get_stream("JOBS").await.expect("it is there");
            let deleted = stream.delete_consumer("work").await;
            deleted.expect("it is there");
        }
        let end = deadline(incoming.next()).await.expect("an error");
        let error = end.expect_err("it is gone");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("consumer"), "{error}");
        assert!(deadline(incoming.next()).await.is_none());
    }
}

#[tokio::test]
async fn what_a_user_has_no_permission_for_is_an_error_at_once() {
    let users = [
        ("publish", r#"publish: {deny: "jobs"}"#),
        ("subscribe", r#"subscribe: {deny: "jobs"}"#),
        ("jetstream", r#"publish: {deny: "$JS.API.>"}"#),
        ("consumer", r#"publish: {deny: "$JS.API.CONSUMER.>"}"#),
        ("inbox", r#"subscribe: {deny: "_INBOX.>"}"#),
    ];
    let users = users.map(|(name, rights)| {
        format!("{{user: {name}, password: p, permissions: {{{rights}}}}}\n")
    });
    let config = format!(
        "jetstream: {{}}\nauthorization {{ users: [\n{{user: all, password: p}}\n{}] }}",
        users.concat()
    );
    let server = Server::configured(&config);
    let at = |user: &str, rest: &str| server.at(rest).replace("//", &format!("//{user}:p@"));
    drop(sender(&at("all", JOBS)).await);
    drop(receiver(&at("all", JOBS)).await);
    // Less than a request may take that is not answered.
    let limit = Duration::from_secs(4);
    let denied = |what: &str, error: io::Error| {
        let text = error.to_string();
        assert_eq!(
            error.kind(),
            io::ErrorKind::PermissionDenied,
            "{what}: {text}"
        );
        assert!(text.contains("check the permissions"), "{what}: {text}");
    };
    let sends = async |user: &str, rest: &str| {
        let address = endpoint(&at(user, rest));
        let sending = async {
            let mut outgoing = address.open_sender().await?;
            // A core subject is refused later.
            loop {
                outgoing.send("hello".into()).await?;
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(limit, sending).await {
            Ok(Ok::<(), io::Error>(())) => unreachable!(),
            Ok(Err(error)) => denied(&format!("{user} {rest}"), error),
            Err(_) => panic!("{user} {rest}: no error"),
        }
    };
    let receives = async |user: &str, rest: &str| {
        let address = endpoint(&at(user, rest));
        let receiving = async {
            let mut incoming = address.open_receiver().await?;
            incoming.next().await.expect("an error").map(drop)
        };
        match tokio::time::timeout(limit, receiving).await {
            Ok(Ok::<(), io::Error>(())) => panic!("{user} {rest}: a message"),
            Ok(Err(error)) => denied(&format!("{user} {rest}"), error),
            Err(_) => panic!("{user} {rest}: no error"),
        }
    };
    let calls = async |user: &str| {
        let address = endpoint(&at(user, "jobs"));
        let calling = async {
            let (mut outgoing, mut incoming) = address.connect().await?.into_split();
            outgoing.send("hello".into()).await?;
            incoming.next().await.expect("an error").map(drop)
        };
        match tokio::time::timeout(limit, calling).await {
            Ok(Ok::<(), io::Error>(())) => panic!("{user}: a reply"),
            Ok(Err(error)) => denied(user, error),
            Err(_) => panic!("{user}: no error"),
        }
    };
    sends("publish", "jobs").await;
    sends("publish", "jobs?stream=JOBS").await;
    sends("jetstream", "jobs?stream=JOBS").await;
    sends("inbox", "jobs?stream=JOBS").await;
    receives("subscribe", "jobs").await;
    receives("jetstream", "jobs?stream=JOBS&consumer=work").await;
    receives("consumer", "jobs?stream=JOBS&consumer=work").await;
    receives("consumer", "jobs?stream=JOBS&consumer=other&create=true").await;
    calls("publish").await;
    calls("inbox").await;
}

#[tokio::test]
async fn a_slow_receiver_of_a_core_subject_says_what_it_lost() {
    let server = Server::with(&[]);
    let mut recv = Command::new(env!("CARGO_BIN_EXE_aqueduct"))
        .args(["recv", &server.at("news?window=1")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let stderr = recv.stderr.take().expect("it has one");
    let (told, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    // Nobody reads its output.
    let mut outgoing = sender(&server.at("news")).await;
    let line = deadline(async {
        loop {
            for _ in 0..1000 {
                let sent = outgoing.feed(Message::new(vec![b'.'; 200])).await;
                sent.expect("it is sent");
            }
            outgoing.flush().await.expect("it is sent");
            if let Ok(line) = lines.try_recv() {
                break line;
            }
        }
    })
    .await;
    recv.kill().expect("it is a child");
    recv.wait().expect("it is a child");
    assert!(line.contains("lost a message"), "{line}");
}

#[tokio::test]
async fn a_message_too_large_by_its_headers_stays_in_its_stream() {
    let server = Server::new();
    let long = "L".repeat(200);
    let from = server.at("from?stream=A&consumer=relay&create=true&ack-wait=1");
    let to = server.at(&format!("to?stream={long}&consumer=check&create=true"));
    // What is left of the server's limit beside the headers to the longer name.
    let largest = (1 << 20) - 64 - 320 - 200;
    let relay = || {
        let mut relay = tokio::process::Command::new(env!("CARGO_BIN_EXE_aqueduct"));
        relay.args(["relay", &from, &to]).kill_on_drop(true);
        relay.stdin(Stdio::null()).stderr(Stdio::piped());
        relay.spawn().expect("it can be run")
    };
    let mut outgoing = sender(&from).await;
    for len in [largest, largest + 1] {
        let sent = deadline(outgoing.send(Message::new(vec![b'.'; len]))).await;
        sent.expect("it fits");
    }
    drop(receiver(&from).await);
    let output = deadline(relay().wait_with_output()).await.expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("takes at most {largest}")), "{text}");
    assert_eq!(next(&mut receiver(&to).await).await.body().len(), largest);
    let kept = next(&mut receiver(&from).await).await;
    assert_eq!(kept.body().len(), largest + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_beyond_the_duplicate_window_is_said() {
    let mut server = Server::new();
    let context = server.jetstream().await;
    let created = context.create_stream(Config {
        name: "JOBS".to_owned(),
        subjects: vec!["jobs".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..Config::default()
    });
    created.await.expect("it is created");
    let mut send = Command::new(env!("CARGO_BIN_EXE_aqueduct"))
        .args(["send", &server.at("jobs?stream=JOBS"), "--wait", "30s"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let mut stdin = send.stdin.take().expect("it has one");
    stdin.write_all(b"one\n").expect("it reads");
    deadline(async { while server.messages("JOBS").await < 1 {} }).await;
    server.stall();
    stdin.write_all(b"two\n").expect("it reads");
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| server.restart());
    drop(stdin);
    let output = tokio::task::spawn_blocking(move || send.wait_with_output());
    let output = deadline(output).await.expect("no panic").expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("longer than the duplicate window"), "{text}");
    assert_eq!(server.messages("JOBS").await, 2);
}

#[tokio::test]
async fn calling_a_stream_is_refused() {
    let server = Server::new();
    let address = endpoint(&server.at("jobs?stream=JOBS"));
    for error in [
        deadline(address.connect())
            .await
            .expect_err("it is one-way"),
        deadline(address.bind()).await.expect_err("it is one-way"),
    ] {
        assert_eq!(error.kind(), &OpenErrorKind::Unsupported);
    }
}
