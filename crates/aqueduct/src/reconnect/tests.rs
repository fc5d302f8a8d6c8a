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
use crate::frame::{FrameError, FramedRead, FramedWrite, Framing};
use crate::handshake::{self, What};

const S: Duration = Duration::from_secs(1);

/// What an attempt to connect shall come to.
enum Attempt {
    To(DuplexStream),
    Fails(io::Error),
    Hangs,
}

/// The connections to come, what happened, and when attempts began.
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

    /// The next connection will be to the peer that is returned.
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

    fn connect(&self, options: Options) -> Reconnect {
        let Self {
            attempts,
            events,
            begun,
        } = self.clone();
        let seen = move |event: &Event| {
            events.lock().unwrap().push(match event {
                Event::Connected { failed } => format!("connected {failed}"),
                Event::Lost {
                    flushed, unflushed, ..
                } => format!("lost {flushed} {unflushed}"),
                Event::Unread => "unread".into(),
                Event::Retrying { failed, .. } => format!("retrying {failed}"),
                Event::GaveUp(_) => "gave up".into(),
            });
        };
        options.on_event(seen).connect(move || {
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
                let (read, write) = tokio::io::split(io);
                let framing = Framing::lines().max_frame(100);
                Ok((
                    FramedWrite::new(write, framing.clone()),
                    FramedRead::new(read, framing),
                ))
            }
        })
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

fn unflushed(error: &io::Error) -> Option<u64> {
    match Error::of(error) {
        Some(Error::Unflushed { frames, .. }) => Some(*frames),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn frames_pass_over_one_connection_after_another() {
    let script = Script::default();
    let mut client = script.connect(Options::new());
    for n in 0..5 {
        let mut peer = script.peer();
        client.send(format!("to {n}").into()).await.unwrap();
        assert_eq!(line(&mut peer).await, format!("to {n}"));
        peer.write_all(b"from\n").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), "from");
        drop(peer);
        // Lost here: with nothing unflushed the next send fails not.
        assert!(timeout(S / 100, client.next()).await.is_err());
    }
    let each = ["connected 0", "lost 1 0"];
    assert_eq!(script.events(), [each; 5].concat());
}

#[tokio::test(start_paused = true)]
async fn attempts_pause_longer_each_time_and_start_anew_after_a_connection_that_proved_itself() {
    let script = Script::default();
    for _ in 0..4 {
        script.fails(libc::ECONNREFUSED);
    }
    let peer = script.peer();
    let mut client = script.connect(Options::new());
    let first = Instant::now();
    assert!(timeout(20 * S, client.next()).await.is_err());
    let begun = script.begun.lock().unwrap().clone();
    let mut before = first;
    for (n, at) in begun[1..].iter().enumerate() {
        let most = DEFAULT_FIRST_PAUSE * (1 << n);
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
    assert!(timeout(S / 2, client.next()).await.is_err());
    assert!(script.begun.lock().unwrap()[5] - lost <= DEFAULT_FIRST_PAUSE + S / 500);
    assert_eq!(script.events()[..2], ["lost 0 0", "connected 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_connections_and_drops_them_is_not_hammered() {
    let script = Script::default();
    for _ in 0..100 {
        drop(script.peer());
    }
    let mut client = script.connect(Options::new());
    assert!(timeout(10 * S, client.next()).await.is_err());
    assert!(script.begun() <= 10, "{}", script.begun());
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_so_many_attempts_and_says_so_on_both_halves() {
    let script = Script::default();
    let client = script.connect(Options::new().attempts(3));
    let (mut sink, mut stream) = client.into_split();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let Some(Error::GaveUp { attempts: 3, .. }) = Error::of(&error) else {
        panic!("{error:?}");
    };
    assert!(stream.next().await.is_none());
    for _ in 0..2 {
        let error = sink.send("never".into()).await.unwrap_err();
        assert_eq!(
            Error::of(&error).unwrap().raw_os_error(),
            Some(libc::ECONNREFUSED)
        );
    }
    sink.close().await.unwrap();
    assert_eq!(script.begun(), 3);
    assert_eq!(script.events(), ["retrying 1", "retrying 2", "gave up"]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_a_time_with_a_last_attempt_at_its_end() {
    let script = Script::default();
    let mut client = script.connect(Options::new().give_up_after(5 * S));
    let start = Instant::now();
    assert!(client.next().await.unwrap().is_err());
    let elapsed = start.elapsed();
    assert!((5 * S..5 * S + S / 100).contains(&elapsed), "{elapsed:?}");
    let last = *script.begun.lock().unwrap().last().unwrap();
    assert!(last - start >= 5 * S);
}

#[tokio::test(start_paused = true)]
async fn what_is_printed_of_it_says_how_its_connection_is() {
    let script = Script::default();
    script.push(Attempt::Hangs);
    script.fails(libc::ECONNREFUSED);
    let peer = script.peer();
    let mut client = script.connect(Options::new().attempt_timeout(S).attempts(3));
    let says = |client: &Reconnect, state: &str| {
        let text = format!("{client:?}");
        assert!(text.contains(&format!("state: \"{state}\"")), "{text}");
    };
    says(&client, "idle");
    assert!(client.next().now_or_never().is_none());
    says(&client, "connecting");
    assert!(timeout(S + S / 100, client.next()).await.is_err());
    says(&client, "pausing");
    assert!(timeout(S, client.next()).await.is_err());
    says(&client, "up");
    drop(peer);
    client.next().await.unwrap().unwrap_err();
    says(&client, "over");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up_and_the_next_one_made() {
    let script = Script::default();
    script.push(Attempt::Hangs);
    let mut peer = script.peer();
    let mut client = script.connect(Options::new().attempt_timeout(3 * S));
    let start = Instant::now();
    client.send("at last".into()).await.unwrap();
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
    let mut client = script.connect(Options::new());
    let error = client.next().await.unwrap().unwrap_err();
    let Some(Error::GaveUp {
        attempts: 1,
        source,
        ..
    }) = Error::of(&error)
    else {
        panic!("{error:?}");
    };
    assert!(handshake::Error::of(source).is_some());
}

#[tokio::test(start_paused = true)]
async fn closing_sends_all_ends_the_stream_with_the_connection_and_connects_no_more() {
    let script = Script::default();
    let mut peer = script.peer();
    let mut client = script.connect(Options::new());
    client.feed("last".into()).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(line(&mut peer).await, "last");
    assert_eq!(line(&mut peer).await, " and the end");
    peer.write_all(b"reply\n").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), "reply");
    drop(peer);
    assert!(client.next().await.is_none());
    let error = client.send("more".into()).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Closed)));
    assert_eq!(script.begun(), 1);

    let mut never_used = script.connect(Options::new());
    never_used.close().await.unwrap();
    assert!(never_used.next().await.is_none());
    assert_eq!(script.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_a_kept_frame_over_a_new_connection_first() {
    let script = Script::default();
    let mut client = script.connect(Options::new());
    client.start_send_unpin("kept".into()).unwrap();
    script.fails(libc::ECONNREFUSED);
    let mut peer = script.peer();
    client.close().await.unwrap();
    assert_eq!(line(&mut peer).await, "kept");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_refused_costs_only_itself() {
    let script = Script::default();
    let mut peer = script.peer();
    let mut client = script.connect(Options::new());
    let error = client.send(vec![b'x'; 101].into()).await.unwrap_err();
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::TooLarge { len: 101, max: 100 })
    );
    client.send("small".into()).await.unwrap();
    assert_eq!(line(&mut peer).await, "small");
    assert_eq!(script.events(), ["connected 0"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_leave_connecting_where_it_is() {
    let script = Script::default();
    script.fails(libc::ECONNREFUSED);
    let mut peer = script.peer();
    let mut client = script.connect(Options::new());
    for _ in 0..1000 {
        assert!(client.next().now_or_never().is_none());
        assert!(client.flush().now_or_never().is_some());
        tokio::task::yield_now().await;
    }
    assert_eq!(script.begun(), 1, "it pauses");
    sleep(S).await;
    for _ in 0..1000 {
        assert!(client.next().now_or_never().is_none());
    }
    assert_eq!(script.begun(), 2);
    client.send("one".into()).await.unwrap();
    assert_eq!(line(&mut peer).await, "one");
}

#[tokio::test(start_paused = true)]
async fn what_one_half_finds_wakes_the_task_of_the_other() {
    let script = Script::default();
    let mut peer = script.peer();
    let (mut sink, mut stream) = script.connect(Options::new()).into_split();
    for _ in 0..20 {
        sink.feed(vec![b'x'; 100].into()).await.unwrap();
    }
    // More than the connection holds.
    let mut flushing = task::spawn(sink.flush());
    assert_pending!(flushing.poll());
    let mut receiving = task::spawn(stream.next());
    assert_pending!(receiving.poll());
    // The peer breaks the framing and does nothing to what it is sent.
    peer.write_all(&[b'x'; 200]).await.unwrap();
    assert!(receiving.is_woken());
    assert_pending!(receiving.poll());
    assert!(flushing.is_woken());
    let error = assert_ready!(flushing.poll()).unwrap_err();
    assert_eq!(unflushed(&error), Some(20));
    drop((flushing, receiving));

    // There is no connection now, and the stream waits for the next attempt.
    let mut receiving = task::spawn(stream.next());
    assert_pending!(receiving.poll());
    sink.close().await.unwrap();
    assert!(receiving.is_woken());
    assert!(assert_ready!(receiving.poll()).is_none());
}

#[tokio::test(start_paused = true)]
async fn two_tasks_with_a_half_each_are_both_woken() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Options::new().first_pause(S)).into_split();
    let sending = async move {
        for n in 0..20 {
            // Each peer goes after one frame; what it says to that is the stream's to find.
            while let Err(error) = timeout(60 * S, sink.send(format!("{n}").into()))
                .await
                .unwrap()
            {
                assert!(unflushed(&error).is_some(), "{error}");
            }
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
