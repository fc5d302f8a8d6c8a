//! A relay whose ends fail or do not end. How the command relays is tested with the command.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use aqueduct::Endpoint;
use aqueduct::connect::{
    Connection, Listener, Message, MessageReceiver, MessageSender, Options, Reconnect,
};
use aqueduct::frame::Framing;
use aqueduct::mq::Queue;
use aqueduct::record;
use aqueduct::relay::{Error, Relay, Spool};
use aqueduct::service::CancellationToken;
use futures_util::{SinkExt, StreamExt, stream};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_test::{assert_pending, task};
use tokio_util::sync::PollSender;

use crate::mq::{QueueName, body};
use crate::support::{Log, deadline};

/// An end of a relay that has to give up soon.
const SHORT: Duration = Duration::from_millis(20);

fn fifo(dir: &TempDir, name: &str) -> Endpoint {
    let address = format!("fifo:{}/{name}", dir.path().display());
    address.parse().expect("it is one")
}

/// The name of a queue to be made, and a bound socket.
async fn queue_and_socket(dir: &TempDir) -> (QueueName, Endpoint, Listener) {
    let to: Endpoint = format!("unix:{}/to", dir.path().display()).parse().unwrap();
    let listener = Options::new().bind(&to).await.expect("bound");
    (QueueName::new(), to, listener)
}

/// A relay from the queue to the socket, and its receiver.
async fn between(
    name: &QueueName,
    to: &Endpoint,
    listener: &mut Listener,
) -> (Relay<'static>, MessageReceiver) {
    let options = Options::new();
    let from: Endpoint = format!("mq:{}", name.0).parse().expect("it is one");
    let incoming = options.open_receiver(&from).await.expect("opened");
    let outgoing = options.open_sender(to).await.expect("connected");
    let client = deadline(listener.accept()).await.expect("it came");
    let receiver = client.expect("accepted").into_receiver();
    (Relay::new(incoming, outgoing), receiver)
}

/// Sends until the queue has been full for that long, since the receiver takes nothing, and returns how
/// many messages were sent.
async fn fill(
    relay: &mut task::Spawn<impl Future<Output = Result<(), Error>>>,
    queue: &Queue,
    quiet: Duration,
    message: impl Fn(u32) -> Vec<u8>,
) -> u32 {
    let (mut sent, mut progress) = (0, Instant::now());
    while progress.elapsed() < quiet {
        assert_pending!(relay.poll());
        while queue.try_send(0, &message(sent)).is_ok() {
            sent += 1;
            progress = Instant::now();
        }
        sleep(Duration::from_micros(100)).await;
    }
    sent
}

/// A relay's outgoing end, and what comes out of it.
async fn way_out(dir: &TempDir) -> (MessageSender, MessageReceiver) {
    let options = Options::new();
    let address = fifo(dir, "to");
    let incoming = options.open_receiver(&address).await.expect("opened");
    let outgoing = options.open_sender(&address).await.expect("opened");
    (outgoing, incoming)
}

/// A relay's incoming end, and a file to write to it what no sender would.
async fn way_in(dir: &TempDir) -> (File, MessageReceiver) {
    let opened = Options::new().open_receiver(&fifo(dir, "from")).await;
    let writer = File::options().write(true).open(dir.path().join("from"));
    (writer.expect("opened"), opened.expect("opened"))
}

async fn next(incoming: &mut MessageReceiver) -> Option<String> {
    let message = deadline(incoming.next()).await?;
    let message = message.expect("it is whole").into_body();
    Some(String::from_utf8_lossy(&message).into_owned())
}

#[tokio::test]
async fn a_failed_tap_stops_receiving_and_delivers_what_was_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (outgoing, mut receiver) = way_out(&dir).await;
    let name = QueueName::new();
    let queue = name.create(Default::default(), 4, 8);
    for message in ["one", "two", "three"] {
        queue
            .try_send(0, message.as_bytes())
            .expect("there is room");
    }
    let address: Endpoint = format!("mq:{}", name.0).parse().expect("it is one");
    let incoming = Options::new().open_receiver(&address).await;
    let mut shown = Vec::new();
    let relay = Relay::new(incoming.expect("opened"), outgoing).tap(|message| {
        shown.push(message.body().clone());
        if shown.len() == 2 {
            return Err(io::Error::other("the disk is full"));
        }
        Ok(())
    });
    let ran = deadline(relay.run(CancellationToken::new())).await;
    assert!(
        matches!(ran, Err(Error::Tap { untapped: 1, .. })),
        "{ran:?}"
    );
    assert_eq!(shown, ["one", "two"]);
    assert_eq!(next(&mut receiver).await.as_deref(), Some("one"));
    assert_eq!(next(&mut receiver).await.as_deref(), Some("two"));
    assert_eq!(next(&mut receiver).await, None);
    assert_eq!(queue.try_recv().expect("it was left"), body("three"));
}

/// What a relay has taken from a queue goes with it when it is killed. Dropping it is no kinder.
#[tokio::test]
async fn a_relay_from_a_queue_has_at_most_8_messages_in_hand() {
    const IN_HAND: u32 = 8;
    let dir = tempfile::tempdir().expect("a directory");
    let (name, to, mut listener) = queue_and_socket(&dir).await;
    let queue = name.create(Default::default(), 4, 64);
    let (relay, mut receiver) = between(&name, &to, &mut listener).await;
    let mut relay = task::spawn(relay.run(CancellationToken::new()));
    // Until the socket is full, as its receiver takes nothing, and so is the queue for a while.
    let quiet = Duration::from_secs(1);
    let sent = fill(&mut relay, &queue, quiet, |_| vec![b'.'; 64]).await;
    drop(relay);
    let mut passed_on = 0;
    while let Some(Ok(_)) = deadline(receiver.next()).await {
        passed_on += 1;
    }
    while queue.try_recv().is_ok() {
        passed_on += 1;
    }
    assert!(passed_on > 100, "{passed_on}");
    assert!(sent - passed_on <= IN_HAND, "{} are lost", sent - passed_on);
}

/// The messages in hand of a relay that is dropped, as of one that is killed, are in its spool.
#[tokio::test]
async fn a_spool_has_what_a_killed_relay_had_in_hand() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("spool");
    let (name, to, mut listener) = queue_and_socket(&dir).await;
    let queue = name.create(Default::default(), 4, 64);
    let (relay, mut receiver) = between(&name, &to, &mut listener).await;
    let spool = Spool::open(&file).expect("it is new");
    assert!(matches!(
        Spool::open(&file),
        Err(record::Error::InUse { .. })
    ));
    let mut relay = task::spawn(relay.spool(spool).run(CancellationToken::new()));
    // Until the socket is full, as its receiver takes nothing, and so are the spool and the queue.
    let quiet = Duration::from_millis(300);
    let numbered = |number: u32| number.to_le_bytes().repeat(16);
    let sent = fill(&mut relay, &queue, quiet, numbered).await;
    drop(relay);
    let number = |message: &Message| u32::from_le_bytes(message.body()[..4].try_into().unwrap());
    let mut seen = Vec::new();
    while let Some(Ok(message)) = deadline(receiver.next()).await {
        seen.push(number(&message));
    }
    let first = seen.len() as u32;
    assert!(first > 100 && seen.iter().copied().eq(0..first), "{seen:?}");
    // As a relay leaves it that is killed while it writes.
    let mut torn = File::options()
        .append(true)
        .open(&file)
        .expect("it is there");
    torn.write_all(&[7; 5]).expect("there is room");

    let (relay, mut receiver) = between(&name, &to, &mut listener).await;
    let relay = relay.spool(Spool::open(&file).expect("it is whole"));
    let relay = tokio::spawn(relay.idle(SHORT * 10).run(CancellationToken::new()));
    let mut seen = Vec::new();
    while let Some(Ok(message)) = deadline(receiver.next()).await {
        seen.push(number(&message));
    }
    let ran = deadline(relay).await.expect("no panic");
    assert!(matches!(ran, Err(Error::Idle(_))), "{ran:?}");
    // Nothing is missing, and the order is kept. Some arrive again.
    let again = *seen.first().expect("some were left");
    assert!(again <= first, "{again} follows {first}");
    assert!(seen.into_iter().eq(again..sent), "all are there");
    assert_eq!(std::fs::read(&file).expect("it is there").len(), 8);
}

#[tokio::test]
async fn a_recording_that_is_no_spool_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("jobs.rec");
    let mut recorder = record::Recorder::open(&file).expect("it is new");
    recorder.record(&"job".into()).expect("there is room");
    drop(recorder);
    let before = std::fs::read(&file).expect("it is there");
    let opened = Spool::open(&file);
    assert!(
        matches!(opened, Err(record::Error::NotARecording)),
        "{opened:?}"
    );
    assert_eq!(std::fs::read(&file).expect("it is there"), before);
}

#[tokio::test]
async fn a_failed_source_stops_after_delivering_what_came_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let (outgoing, mut receiver) = way_out(&dir).await;
    let (mut writer, incoming) = way_in(&dir).await;
    writer
        .write_all(b"\0\0\0\x03one\0\0\0\x03t")
        .expect("written");
    drop(writer);
    let relay = Relay::new(incoming, outgoing);
    let ran = deadline(relay.run(CancellationToken::new())).await;
    let Err(Error::Receive(error)) = ran else {
        panic!("{ran:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(next(&mut receiver).await.as_deref(), Some("one"));
    assert_eq!(next(&mut receiver).await, None);
}

/// For half of the grace period it waits for the rest of a message.
#[tokio::test]
async fn a_stopping_relay_does_not_wait_for_ever_for_a_message() {
    let (log, _recording) = Log::start();
    let dir = tempfile::tempdir().expect("a directory");
    let (outgoing, mut receiver) = way_out(&dir).await;
    let (mut writer, incoming) = way_in(&dir).await;
    writer
        .write_all(b"\0\0\0\x03one\0\0\0\x03t")
        .expect("written");
    let stop = CancellationToken::new();
    let relay = Relay::new(incoming, outgoing).grace(SHORT);
    let stopping = async {
        // Both were taken in one read.
        assert_eq!(next(&mut receiver).await.as_deref(), Some("one"));
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(deadline(relay.run(stop.clone())), stopping);
    ran.expect("all that was whole has been delivered");
    log.until("before the senders have ended").await;
    log.until("bytes=5").await;
    assert_eq!(next(&mut receiver).await, None);
}

/// It has all there is, and nothing is lost.
#[tokio::test]
async fn a_stopped_relay_whose_receiver_stays_has_done_its_work() {
    let (log, _recording) = Log::start();
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, incoming) = way_in(&dir).await;
    let address: Endpoint = format!("unix:{}/to", dir.path().display())
        .parse()
        .expect("it is one");
    let mut server = Options::new().bind(&address).await.expect("bound");
    let mut options = Options::new();
    let options = options.reconnect(Reconnect::new());
    let outgoing = options.open_sender(&address).await.expect("opened");
    let stop = CancellationToken::new();
    let relay = Relay::new(incoming, outgoing).grace(SHORT);
    let stopping = async {
        writer.write_all(b"\0\0\0\x03one").expect("written");
        let accepted = deadline(server.accept()).await.expect("accepts");
        // Its sending half stays open.
        let (sender, mut receiver) = accepted.expect("accepted").into_split();
        assert_eq!(next(&mut receiver).await.as_deref(), Some("one"));
        stop.cancel();
        assert_eq!(next(&mut receiver).await, None);
        sender
    };
    let (ran, _sender) = tokio::join!(deadline(relay.run(stop.clone())), stopping);
    ran.expect("all was sent");
    log.until("did not confirm").await;
}

#[tokio::test]
async fn a_relay_that_stops_gives_up_a_receiver_that_takes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (outgoing, _receiver) = way_out(&dir).await;
    let (writer, incoming) = way_in(&dir).await;
    let stop = CancellationToken::new();
    let relay = Relay::new(incoming, outgoing).grace(SHORT);
    assert!(format!("{relay:?}").contains("outgoing"));
    // With its length it is more than a FIFO can be made to hold.
    let relay = relay.tap(|_| {
        stop.cancel();
        Ok(())
    });
    let mut writer = writer;
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&[&[0, 0x10, 0, 0][..], &vec![b'.'; 0x10_0000]].concat());
    });
    let ran = deadline(relay.run(stop.clone())).await;
    assert!(matches!(ran, Err(Error::GivenUp)), "{ran:?}");
    writing.join().expect("it was read, or nobody reads it");
}

/// It used to drop what it had taken after half of the time, and to report success.
#[tokio::test(start_paused = true)]
async fn a_relay_that_stops_waits_for_a_slow_receiver() {
    const LINES: usize = 10_000;
    let (here, mut there) = duplex(1 << 16);
    let incoming = Connection::from_io(here, Framing::lines()).into_receiver();
    there
        .write_all(&b"line\n".repeat(LINES))
        .await
        .expect("it fits");
    let (sent, mut received) = mpsc::channel(1);
    let sink = PollSender::new(sent).sink_map_err(|_| io::ErrorKind::BrokenPipe.into());
    let outgoing = Connection::from_frames(sink, stream::pending(), 100);
    let (outgoing, _) = outgoing.into_split();
    let stop = CancellationToken::new();
    let grace = Duration::from_secs(10);
    let running = Relay::new(incoming, outgoing)
        .grace(grace)
        .run(stop.clone());
    let receiving = async {
        // All lines were taken in one read.
        let mut count = usize::from(received.recv().await.is_some());
        stop.cancel();
        sleep(grace * 3 / 4).await;
        while received.recv().await.is_some() {
            count += 1;
        }
        count
    };
    let (ran, count) = deadline(async { tokio::join!(running, receiving) }).await;
    ran.expect("everything was delivered in time");
    assert_eq!(count, LINES);
    drop(there);
}

/// Any local process can send a datagram with a newline in it.
#[tokio::test]
async fn a_refused_message_costs_no_other() {
    let (log, _recording) = Log::start();
    let (here, incoming) = Connection::pair();
    let (stream, mut there) = duplex(64);
    let outgoing = Connection::from_io(stream, Framing::lines()).into_sender();
    let relay = Relay::new(incoming.into_receiver(), outgoing);
    let sending = async {
        let mut sender = here.into_sender();
        for message in ["one", "a\nb", "two"] {
            sender.send(message.into()).await.expect("sent");
        }
        sender.close().await.expect("closed");
    };
    let mut got = String::new();
    let run = async {
        let ran = relay.run(CancellationToken::new()).await;
        there.read_to_string(&mut got).await.expect("text");
        ran
    };
    let ((), ran) = deadline(async { tokio::join!(sending, run) }).await;
    assert!(matches!(ran, Err(Error::Refused { len: 3, .. })), "{ran:?}");
    assert_eq!(got, "one\ntwo\n");
    let log = log.text();
    assert!(
        log.contains("WARN") && log.contains("cannot be sent and is lost"),
        "{log}"
    );
}
