//! Many clients of one receiving end, and those among them that say nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::connect::{MessageReceiver, Options};
use aqueduct::frame::Framing;
use futures_util::{FutureExt, StreamExt};
use tokio_test::assert_pending;

use crate::support::{DEADLINE, Log, deadline};

/// A receiving end, and where its clients connect to.
async fn receive(options: &Options) -> (MessageReceiver, String) {
    let any: Endpoint = "tcp://127.0.0.1:0".parse().expect("it is one");
    let listener = options.bind(&any).await.expect("a port is free");
    let local = listener.local_endpoint().to_string();
    let at = local.trim_start_matches("tcp://").to_owned();
    (listener.into_receiver(), at)
}

fn lines() -> Options {
    super::options(Framing::lines())
}

fn client(at: &str) -> TcpStream {
    let client = TcpStream::connect(at).expect("it listens");
    client
        .set_read_timeout(Some(DEADLINE))
        .expect("it is an option");
    client
}

fn says(mut client: &TcpStream, line: &str) {
    let said = client.write_all(format!("{line}\n").as_bytes());
    said.expect("there is room");
}

/// Whether its connection was closed by the other side.
fn is_closed(mut client: &TcpStream) -> bool {
    match client.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

async fn hears(incoming: &mut MessageReceiver, line: &str) {
    let message = deadline(incoming.next()).await.expect("it goes on");
    assert_eq!(message.expect("it is whole").body(), line);
}

/// A thousand of them shut out all others for ever.
#[tokio::test]
async fn silent_clients_give_way_when_all_places_are_taken() {
    let mut options = lines();
    options.max_connections(3);
    let (mut incoming, at) = receive(&options).await;
    let logger = client(&at);
    says(&logger, "first");
    hears(&mut incoming, "first").await;
    let silent: Vec<_> = (0..20).map(|_| client(&at)).collect();
    let late = client(&at);
    says(&late, "late");
    hears(&mut incoming, "late").await;
    // The longest silent went first; who had sent something stays.
    assert!(is_closed(&silent[0]));
    says(&logger, "second");
    hears(&mut incoming, "second").await;
}

#[tokio::test]
async fn clients_that_have_sent_a_message_keep_their_places() {
    let mut options = lines();
    options.max_connections(2);
    let (mut incoming, at) = receive(&options).await;
    let loggers = [client(&at), client(&at)];
    for (logger, line) in loggers.iter().zip(["one", "two"]) {
        says(logger, line);
        hears(&mut incoming, line).await;
    }
    let third = client(&at);
    says(&third, "three");
    for _ in 0..10 {
        assert!(incoming.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let [first, second] = loggers;
    says(&second, "still there");
    hears(&mut incoming, "still there").await;
    drop(first);
    hears(&mut incoming, "three").await;
}

/// Sets a limit on an end.
type SetLimit = fn(&mut Options, Duration) -> &mut Options;

#[tokio::test]
async fn slow_clients_lose_their_connections() {
    let limit = Duration::from_millis(20);
    let cases: [(SetLimit, &str, &str); 3] = [
        (
            |it, limit| it.first_timeout(limit),
            "",
            "sent no first message within",
        ),
        (
            |it, limit| it.message_timeout(limit),
            "half",
            "did not finish a message",
        ),
        (
            |it, limit| it.idle_timeout(limit),
            "one\n",
            "sent no further message",
        ),
    ];
    for (limited, sent, why) in cases {
        let (log, _recording) = Log::start();
        let mut options = lines();
        let (mut incoming, at) = receive(limited(&mut options, limit)).await;
        let mut slow = client(&at);
        slow.write_all(sent.as_bytes()).expect("there is room");
        let told = log.until(why);
        tokio::pin!(told);
        deadline(async {
            loop {
                tokio::select! {
                    () = &mut told => return,
                    message = incoming.next() => {
                        assert_eq!(message.expect("no end").expect("whole").body(), "one");
                    }
                }
            }
        })
        .await;
        assert!(is_closed(&slow), "{why}");
        // Others are heard as before.
        let other = client(&at);
        says(&other, "hello");
        hears(&mut incoming, "hello").await;
    }
}

/// The client could not have sent the rest: its messages were not taken.
#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_receives_is_not_the_clients() {
    let mut options = lines();
    options.message_timeout(Duration::from_secs(30));
    let (mut incoming, at) = receive(&options).await;
    let (mut slow, other) = (client(&at), client(&at));
    slow.write_all(b"ha").expect("there is room");
    while incoming.unfinished() == 0 {
        assert!(incoming.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    says(&other, "one");
    hears(&mut incoming, "one").await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    for _ in 0..10 {
        assert!(incoming.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    says(&slow, "lf");
    hears(&mut incoming, "half").await;
    // Now it has its time, and no more.
    slow.write_all(b"ha").expect("there is room");
    let mut waiting = tokio_test::task::spawn(incoming.next());
    assert_pending!(waiting.poll());
    let waited = tokio::time::timeout(Duration::from_secs(31), waiting).await;
    assert!(waited.is_err(), "nobody else speaks");
    assert!(is_closed(&slow));
}

#[tokio::test]
async fn warnings_about_many_bad_clients_are_limited_and_counted() {
    let (log, _recording) = Log::start();
    let (mut incoming, at) = receive(&super::options(Framing::length())).await;
    for _ in 0..100 {
        // A length that is over every limit.
        client(&at).write_all(&[0xff; 4]).expect("there is room");
    }
    let good = client(&at);
    (&good).write_all(b"\0\0\0\x02hi").expect("there is room");
    hears(&mut incoming, "hi").await;
    // Those whose turn has not come yet.
    let all = async {
        while log.text().matches("and its connection was closed").count() < 100 {
            assert!(incoming.next().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    };
    deadline(all).await;
    drop(incoming);
    let text = log.text();
    let warnings = text
        .lines()
        .filter(|it| it.contains("WARN aqueduct::connect"));
    assert_eq!(warnings.count(), 11, "ten, and how many were left out");
    assert!(
        text.contains("90 more like this: a client broke off"),
        "{text}"
    );
}
