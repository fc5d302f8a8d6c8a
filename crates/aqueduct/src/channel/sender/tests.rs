use bytes::BytesMut;
use tokio_test::{assert_pending, assert_ready_ok, task};

use super::*;
use crate::channel::encoding::SCRATCH;
use crate::channel::{Channel, Receiver, mock};
use crate::codec::{BoxError, Format, Raw, Text};

/// A codec that fails after it has written part of an item that begins with `!`.
#[derive(Clone)]
struct Half;

impl Format for Half {
    fn name(&self) -> &'static str {
        "half"
    }
}

impl Encode<&'static str> for Half {
    fn encode(&self, item: &&'static str, dst: &mut BytesMut) -> Result<(), BoxError> {
        dst.extend_from_slice(item.as_bytes());
        if item.starts_with('!') {
            return Err("half is enough".into());
        }
        Ok(())
    }
}

fn open(gate: &mock::Gate) {
    gate.change(|state| {
        state.room = 1000;
        state.flushes = true;
    });
}

#[tokio::test]
async fn an_item_that_cannot_be_encoded_leaves_nothing_behind() {
    let (gate, sink) = mock::sink();
    open(&gate);
    let mut sender = Sender::new(sink, Half);
    sender.feed("a").await.unwrap();
    match sender.send("!b").await {
        Err(Error::Encode {
            codec: "half",
            type_name: "&str",
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    sender.send("c").await.unwrap();
    assert_eq!(gate.state().sent, ["a", "c"]);
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_and_the_sender_goes_on() {
    let (gate, sink) = mock::sink();
    open(&gate);
    gate.change(|state| state.max = Some(3));
    let mut sender = Sender::new(sink, Text);
    let error = sender.send("four").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    sender.send("two").await.unwrap();
    assert_eq!(gate.state().sent, ["two"]);
}

#[test]
fn send_dropped_while_it_waits_for_room_sends_nothing() {
    let (gate, sink) = mock::sink();
    let mut sender = Sender::new(sink, Text);
    {
        let mut sending = task::spawn(sender.send("lost"));
        assert_pending!(sending.poll());
    }
    open(&gate);
    assert_ready_ok!(task::spawn(sender.send("next")).poll());
    assert_eq!(gate.state().sent, ["next"]);
}

#[test]
fn a_send_dropped_while_flushing_is_sent_once_by_the_next() {
    let (gate, sink) = mock::sink();
    gate.change(|state| state.room = 2);
    let mut sender = Sender::new(sink, Text);
    {
        let mut sending = task::spawn(sender.send("queued"));
        assert_pending!(sending.poll());
        assert_pending!(sending.poll());
    }
    gate.change(|state| state.flushes = true);
    assert_ready_ok!(task::spawn(sender.flush()).poll());
    assert_eq!(gate.state().sent, ["queued"]);
}

#[test]
fn reserve_dropped_anywhere_loses_and_doubles_nothing() {
    let (gate, sink) = mock::sink();
    let mut sender = Sender::<Bytes>::new(sink, Raw);
    for n in 0..100_u8 {
        let item = Bytes::copy_from_slice(&[n]);
        gate.change(|state| (state.room, state.flushes) = (0, false));
        {
            let mut reserving = task::spawn(sender.reserve());
            assert_pending!(reserving.poll());
            gate.change(|state| state.room = 1);
            assert!(reserving.is_woken(), "dropped when the room has come");
        }
        {
            // A permit that is dropped unused.
            let _permit = assert_ready_ok!(task::spawn(sender.reserve()).poll());
        }
        let permit = assert_ready_ok!(task::spawn(sender.reserve()).poll());
        permit.send(item).unwrap();
        {
            let mut flushing = task::spawn(sender.flush());
            assert_pending!(flushing.poll());
            gate.change(|state| state.flushes = true);
            assert!(flushing.is_woken(), "dropped when it could go on");
        }
        assert_ready_ok!(task::spawn(sender.flush()).poll());
    }
    let expected: Vec<Vec<u8>> = (0..100).map(|n| vec![n]).collect();
    assert_eq!(gate.state().sent, expected);
}

#[tokio::test(start_paused = true)]
async fn close_gives_up_at_the_deadline_and_can_go_on_later() {
    let (gate, sink) = mock::sink();
    gate.change(|state| state.room = 1);
    let mut sender = Sender::new(sink, Text);
    sender.feed("x").await.unwrap();
    let begun = tokio::time::Instant::now();
    match sender.close().await {
        Err(Error::TimedOut { after }) => assert_eq!(after, DEFAULT_CLOSE_TIMEOUT),
        other => panic!("{other:?}"),
    }
    assert_eq!(begun.elapsed(), DEFAULT_CLOSE_TIMEOUT);
    assert!(matches!(sender.feed("y").await, Err(Error::Closed)));
    assert!(!gate.state().closed);

    gate.change(|state| state.flushes = true);
    sender.close().await.unwrap();
    assert_eq!(gate.state().sent, ["x"]);
    assert!(gate.state().closed);
}

#[test]
fn a_dropped_close_goes_on_when_called_again() {
    let (gate, sink) = mock::sink();
    gate.change(|state| state.room = 1);
    let mut sender = Sender::new(sink, Text);
    assert_ready_ok!(task::spawn(sender.feed("x")).poll());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    {
        let mut closing = task::spawn(sender.close());
        assert_pending!(closing.poll());
    }
    gate.change(|state| state.flushes = true);
    assert_ready_ok!(task::spawn(sender.close()).poll());
    assert_eq!(gate.state().sent, ["x"]);
}

#[tokio::test]
async fn close_lets_the_transport_go_while_the_sender_lives_on() {
    let (here, mut there) = Channel::<String, String>::pair(Text);
    let (mut sender, _receiver) = here.into_split();
    sender.send("last".into()).await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(there.recv().await.unwrap().unwrap(), "last");
    assert!(there.recv().await.is_none(), "the end of the stream");
    assert!(matches!(
        sender.send("late".into()).await,
        Err(Error::Closed)
    ));
    sender.flush().await.unwrap();
    sender.close().await.unwrap();
}

#[tokio::test]
async fn half_closing_a_channel_leaves_the_other_direction_open() {
    let (mut here, mut there) = Channel::<String, String>::pair(Text);
    here.close().await.unwrap();
    assert!(there.recv().await.is_none());
    there.send("still".into()).await.unwrap();
    assert_eq!(here.recv().await.unwrap().unwrap(), "still");
    drop(here);
    let error = there.send("gone".into()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// tarpc flushes until there is room. It hung where a sink had no room and nothing to flush: an
/// in-memory channel that is full, or any sink when the task had used up its budget.
#[test]
fn as_a_sink_it_is_not_flushed_before_it_has_room() {
    let (gate, sink) = mock::sink();
    gate.change(|state| state.flushes = true);
    let mut sender = task::spawn(Sender::<String>::new(sink, Text));
    let until_room = |mut sender: Pin<&mut Sender<String>>, cx: &mut Context<'_>| {
        for _ in 0..10 {
            if sender.as_mut().poll_ready(cx)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            ready!(sender.as_mut().poll_flush(cx))?;
        }
        panic!("it would never end");
    };
    assert_pending!(sender.enter(|cx, sender| until_room(sender, cx)));
    gate.change(|state| state.room = 1);
    assert!(sender.is_woken());
    assert_ready_ok!(sender.enter(|cx, sender| until_room(sender, cx)) as Poll<Result<(), Error>>);

    // Its own `flush` is for queued items, and there are none.
    gate.change(|state| state.room = 0);
    assert_pending!(sender.enter(|cx, sender| sender.poll_ready(cx)));
    let mut flush = task::spawn(sender.flush());
    assert_ready_ok!(flush.poll());
}

#[tokio::test]
async fn a_channel_is_a_stream_and_a_sink() {
    use futures_util::{SinkExt, StreamExt};

    let (here, there) = Channel::<String, String>::pair(Text);
    let echo = tokio::spawn(async move {
        let (sink, stream) = there.into_split();
        stream.forward(sink).await
    });
    let (mut sink, stream) = here.split::<String>();
    sink.send_all(&mut futures_util::stream::iter(
        ["a", "b"].map(|it| Ok(it.into())),
    ))
    .await
    .unwrap();
    SinkExt::close(&mut sink).await.unwrap();
    let back: Vec<String> = stream.map(Result::unwrap).collect().await;
    assert_eq!(back, ["a", "b"]);
    echo.await.unwrap().unwrap();
}

#[test]
fn what_is_public_is_send() {
    fn send<T: Send>(_: &T) {}

    let (mut channel, _other) = Channel::<String, String>::pair(Text);
    send(&channel);
    send(&channel.send(String::new()));
    send(&channel.split_mut().0.reserve());
    send(&channel.close());
    send(&channel.recv());
    send(&channel.split_mut().1.recv_many(&mut Vec::new(), 1));
    let (sender, receiver) = channel.into_split();
    send::<Sender<String>>(&sender);
    send::<Receiver<String>>(&receiver);
    assert_eq!(
        format!("{sender:?}"),
        r#"Sender { item: "alloc::string::String", codec: "text", closed: false, .. }"#
    );
}

#[test]
fn memory_is_used_again_once_the_sink_has_let_go() {
    let (gate, sink) = mock::sink();
    open(&gate);
    let mut sender = Sender::new(sink, Text);
    let mut places = std::collections::HashSet::new();
    for _ in 0..if cfg!(miri) { 200 } else { 1000 } {
        sender.start("x".repeat(100)).unwrap();
        let frame = gate.state().queued.pop().unwrap();
        places.insert(frame.as_ptr() as usize / SCRATCH);
        gate.change(|state| state.room = 1);
    }
    // Up to 100 kB went through one block, which spans at most two aligned ones.
    assert!(places.len() <= 2, "{places:?}");
}

/// Otherwise a transport that takes thousands of small items before it writes would let one task
/// run for half a million of them.
#[tokio::test]
async fn items_that_fit_are_taken_in_turns_with_other_tasks() {
    use futures_util::{SinkExt, sink};

    let frames = sink::drain::<Bytes>().sink_map_err(io::Error::other);
    let mut sender: Sender<&str> = Sender::new(frames, Text);
    tokio::task::yield_now().await;
    let mut taken = 0;
    while task::spawn(sender.feed("a")).poll().is_ready() {
        taken += 1;
        assert!(taken < 10_000, "it never lets others run");
    }
    assert!(taken > 100, "only {taken} in a turn");
    // The next turn.
    tokio::task::yield_now().await;
    assert_ready_ok!(task::spawn(sender.feed("a")).poll());
}
