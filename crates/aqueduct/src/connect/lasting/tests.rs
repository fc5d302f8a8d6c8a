mod loss;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, pending};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::frame::{BoxFrameSink, BoxFrameStream, FrameError, Framing};
use crate::handshake::{self, What};

const S: Duration = Duration::from_secs(1);

/// The default of [`Reconnect::pauses`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The planned outcome of an attempt to connect.
enum Attempt {
    To(DuplexStream),
    Fails(io::Error),
    Hangs,
}

/// The planned connections, the events so far, and when attempts began.
#[derive(Clone, Default)]
struct Script {
    attempts: Arc<Mutex<VecDeque<Attempt>>>,
    events: Arc<Mutex<Vec<String>>>,
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Script {
    fn push(&self, attempt: Attempt) {
        self.attempts.lock().unwrap().push_back(attempt);
    }

    /// Plans a connection to the peer that is returned.
    fn peer(&self) -> DuplexStream {
        let (here, there) = duplex(1 << 10);
        self.push(Attempt::To(here));
        there
    }

    fn fails(&self, errno: i32) {
        self.push(Attempt::Fails(io::Error::from_raw_os_error(errno)));
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    fn begun(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn connection(&self, policy: Reconnect) -> Connection {
        let Self {
            attempts,
            events,
            begun,
        } = self.clone();
        let seen = move |event: &ReconnectEvent| {
            events.lock().unwrap().push(match event {
                ReconnectEvent::Connected { failed } => format!("connected {failed}"),
                ReconnectEvent::Lost { at_risk, again, .. } => format!("lost {at_risk} {again}"),
                ReconnectEvent::Unread => "unread".into(),
                ReconnectEvent::Retrying { failed, .. } => format!("retrying {failed}"),
                ReconnectEvent::GaveUp(_) => "gave up".into(),
            });
        };
        policy.on_event(seen).connect(move || {
            begun.lock().unwrap().push(Instant::now());
            let attempt = attempts.lock().unwrap().pop_front();
            async move {
                let io = match attempt {
                    Some(Attempt::To(io)) => io,
                    Some(Attempt::Fails(error)) => return Err(error),
                    Some(Attempt::Hangs) => pending().await,
                    None => return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
                };
                // Suspends, as real connecting does.
                tokio::task::yield_now().await;
                Ok(Connection::from_io(io, Framing::lines().max_frame(100)))
            }
        })
    }

    /// Both halves.
    fn connect(&self, policy: Reconnect) -> (BoxFrameSink, BoxFrameStream) {
        self.connection(policy).into_frames()
    }
}

async fn line(peer: &mut DuplexStream) -> String {
    let mut line = String::new();
    loop {
        match timeout(60 * S, peer.read_u8()).await.expect("a line comes") {
            Ok(b'\n') => return line,
            Ok(byte) => line.push(byte.into()),
            Err(_) => return format!("{line} and the end"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_pass_over_one_connection_after_another() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    for n in 0..5 {
        let mut peer = script.peer();
        sink.send(format!("to {n}").into()).await.unwrap();
        assert_eq!(line(&mut peer).await, format!("to {n}"));
        peer.write_all(b"from\n").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "from");
        drop(peer);
        // The loss is noticed here: with nothing unflushed the next send does not fail.
        assert!(timeout(S / 100, stream.next()).await.is_err());
    }
    let each = ["connected 0", "lost 1 0"];
    assert_eq!(script.events(), [each; 5].concat());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_start_anew_after_a_lasting_connection() {
    let script = Script::default();
    for _ in 0..4 {
        script.fails(libc::ECONNREFUSED);
    }
    let peer = script.peer();
    let (_sink, mut stream) = script.connect(Reconnect::new());
    let first = Instant::now();
    assert!(timeout(20 * S, stream.next()).await.is_err());
    let begun = script.begun.lock().unwrap().clone();
    let mut before = first;
    for (n, at) in begun[1..].iter().enumerate() {
        let most = FIRST_PAUSE * (1 << n);
        let pause = *at - before;
        // Timers have a resolution of a millisecond.
        assert!(
            (most / 2..=most + S / 500).contains(&pause),
            "{n}: {pause:?}"
        );
        before = *at;
    }
    let expected = [
        "retrying 1",
        "retrying 2",
        "retrying 3",
        "retrying 4",
        "connected 4",
    ];
    assert_eq!(script.events(), expected);

    // It has lasted for the longest pause by now.
    drop(peer);
    script.peer();
    let lost = Instant::now();
    assert!(timeout(S / 2, stream.next()).await.is_err());
    assert!(script.begun.lock().unwrap()[5] - lost <= FIRST_PAUSE + S / 500);
    assert_eq!(script.events()[..2], ["lost 0 0", "connected 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_every_connection_is_not_hammered() {
    let script = Script::default();
    for _ in 0..100 {
        drop(script.peer());
    }
    let (_sink, mut stream) = script.connect(Reconnect::new().pauses(S / 10, 10 * S));
    assert!(timeout(10 * S, stream.next()).await.is_err());
    assert!(script.begun() <= 10, "{}", script.begun());
}

#[tokio::test(start_paused = true)]
async fn both_halves_say_that_the_attempts_are_used_up() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Reconnect::new().attempts(3));
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(GaveUp::of(&error).map(|it| it.attempts), Some(3));
    assert!(stream.next().await.is_none());
    for _ in 0..2 {
        let error = sink.send("never".into()).await.unwrap_err();
        let source = &GaveUp::of(&error).unwrap().source;
        assert_eq!(source.raw_os_error(), Some(libc::ECONNREFUSED));
    }
    sink.close().await.unwrap();
    assert_eq!(script.begun(), 3);
    assert_eq!(script.events(), ["retrying 1", "retrying 2", "gave up"]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_a_time_with_a_last_attempt_at_its_end() {
    let script = Script::default();
    let (_sink, mut stream) = script.connect(Reconnect::new().give_up_after(5 * S));
    let start = Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let elapsed = start.elapsed();
    assert!((5 * S..5 * S + S / 100).contains(&elapsed), "{elapsed:?}");
    let last = *script.begun.lock().unwrap().last().unwrap();
    assert!(last - start >= 5 * S);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up_and_the_next_one_made() {
    let script = Script::default();
    script.push(Attempt::Hangs);
    let mut peer = script.peer();
    let (mut sink, _stream) = script.connect(Reconnect::new().attempt_timeout(3 * S));
    let start = Instant::now();
    sink.send("at last".into()).await.unwrap();
    assert!(start.elapsed() < 4 * S);
    assert_eq!(line(&mut peer).await, "at last");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_time_cures_ends_it_at_once() {
    let script = Script::default();
    let mismatch = handshake::Error::Mismatch {
        what: What::Messages,
        ours: "chat/1".into(),
        theirs: "chat/2".into(),
    };
    script.push(Attempt::Fails(mismatch.into()));
    let (_sink, mut stream) = script.connect(Reconnect::new());
    let error = stream.next().await.unwrap().unwrap_err();
    let gave_up = GaveUp::of(&error).unwrap();
    assert_eq!(gave_up.attempts, 1);
    assert!(handshake::Error::of(&gave_up.source).is_some());
}

#[tokio::test(start_paused = true)]
async fn closing_sends_everything_and_does_not_connect_again() {
    let script = Script::default();
    let mut peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    sink.feed("last".into()).await.unwrap();
    sink.close().await.unwrap();
    assert_eq!(line(&mut peer).await, "last");
    assert_eq!(line(&mut peer).await, " and the end");
    peer.write_all(b"reply\n").await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "reply");
    drop(peer);
    assert!(stream.next().await.is_none());
    let error = sink.send("more".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(script.begun(), 1);

    let (mut sink, mut stream) = script.connect(Reconnect::new());
    sink.close().await.unwrap();
    assert!(stream.next().await.is_none());
    assert_eq!(script.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_a_kept_frame_over_a_new_connection_first() {
    let script = Script::default();
    let (mut sink, _stream) = script.connect(Reconnect::new());
    sink.start_send_unpin("kept".into()).unwrap();
    script.fails(libc::ECONNREFUSED);
    let mut peer = script.peer();
    sink.close().await.unwrap();
    assert_eq!(line(&mut peer).await, "kept");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_refused_costs_only_itself() {
    let script = Script::default();
    let mut peer = script.peer();
    let (mut sink, _stream) = script.connect(Reconnect::new());
    let error = sink.send(vec![b'x'; 101].into()).await.unwrap_err();
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::TooLarge { len: 101, max: 100 })
    );
    sink.send("small".into()).await.unwrap();
    assert_eq!(line(&mut peer).await, "small");
    assert_eq!(script.events(), ["connected 0"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_leave_connecting_where_it_is() {
    let script = Script::default();
    script.fails(libc::ECONNREFUSED);
    let mut peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    for _ in 0..1000 {
        assert!(stream.next().now_or_never().is_none());
        assert!(sink.flush().now_or_never().is_some());
        tokio::task::yield_now().await;
    }
    assert_eq!(script.begun(), 1, "it pauses");
    sleep(S).await;
    for _ in 0..1000 {
        assert!(stream.next().now_or_never().is_none());
    }
    assert_eq!(script.begun(), 2);
    sink.send("one".into()).await.unwrap();
    assert_eq!(line(&mut peer).await, "one");
}

#[tokio::test(start_paused = true)]
async fn what_one_half_finds_wakes_the_task_of_the_other() {
    let script = Script::default();
    let mut peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    for _ in 0..20 {
        sink.feed(vec![b'x'; 100].into()).await.unwrap();
    }
    // More than the connection holds.
    let mut flushing = task::spawn(sink.flush());
    assert_pending!(flushing.poll());
    let mut receiving = task::spawn(stream.next());
    assert_pending!(receiving.poll());
    // The peer breaks the framing and ignores what it is sent.
    peer.write_all(&[b'x'; 200]).await.unwrap();
    assert!(receiving.is_woken());
    assert_pending!(receiving.poll());
    assert!(flushing.is_woken());
    // Messages that were not taken go to the next connection.
    assert_pending!(flushing.poll());
    drop((flushing, receiving));
    let mut second = script.peer();
    let reading = async {
        let mut lines = 0;
        while line(&mut second).await.len() == 100 {
            lines += 1;
        }
        lines
    };
    let (lines, closed) = join(reading, sink.close()).await;
    closed.unwrap();
    let lost = format!("lost {} {lines}", 20 - lines);
    assert!(script.events().contains(&lost), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_a_receiver_that_waits_to_connect() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    let mut receiving = task::spawn(stream.next());
    assert_pending!(receiving.poll());
    sink.close().await.unwrap();
    assert!(receiving.is_woken());
    assert!(assert_ready!(receiving.poll()).is_none());
}

#[tokio::test(start_paused = true)]
async fn two_tasks_with_a_half_each_are_both_woken() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Reconnect::new().pauses(S, S));
    let sending = async move {
        for n in 0..20 {
            // Each peer leaves after one frame; the stream has to notice it.
            let sent = timeout(60 * S, sink.send(format!("{n}").into())).await;
            sent.unwrap().unwrap();
            tokio::task::yield_now().await;
        }
        sink.close().await
    };
    let receiving = async move {
        let mut received = 0;
        while let Some(frame) = timeout(60 * S, stream.next()).await.unwrap() {
            frame.unwrap();
            received += 1;
        }
        received
    };
    let peers = script.clone();
    let serving = tokio::spawn(async move {
        loop {
            let mut peer = peers.peer();
            if line(&mut peer).await.ends_with("end") {
                continue;
            }
            peer.write_all(b"hello\n").await.unwrap();
        }
    });
    let (sending, receiving) = (tokio::spawn(sending), tokio::spawn(receiving));
    let (closed, received) = timeout(600 * S, join(sending, receiving)).await.unwrap();
    closed.unwrap().unwrap();
    assert!(received.unwrap() > 0);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn closing_is_no_error_where_the_peer_has_left_in_order() {
    let script = Script::default();
    let mut peer = script.peer();
    let mut sink = script.connection(Reconnect::new()).into_sender();
    sink.send("all".into()).await.unwrap();
    assert_eq!(line(&mut peer).await, "all");
    drop(peer);
    sink.close().await.unwrap();
    assert_eq!(script.begun(), 1);
}
