//! Frames of a connection that breaks.

use super::*;
use crate::connect::lasting::incoming::MAX_UNREAD;

#[tokio::test(start_paused = true)]
async fn unsent_frames_go_to_the_next_connection_once() {
    let script = Script::default();
    let peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    sink.feed("one".into()).await.unwrap();
    sink.feed("two".into()).await.unwrap();
    drop(peer);
    let mut second = script.peer();
    // The stream finds the loss.
    assert!(timeout(S, stream.next()).await.is_err());
    assert_eq!(
        script.events(),
        ["connected 0", "lost 0 2", "retrying 1", "connected 1"]
    );
    sink.send("three".into()).await.unwrap();
    for expected in ["one", "two", "three"] {
        assert_eq!(line(&mut second).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_finds_the_connection_broken_uses_the_next() {
    let script = Script::default();
    let peer = script.peer();
    let (mut sink, _stream) = script.connect(Reconnect::new());
    sink.feed("one".into()).await.unwrap();
    drop(peer);
    let mut second = script.peer();
    sink.flush().await.unwrap();
    assert_eq!(line(&mut second).await, "one");
    assert_eq!(script.events()[1], "lost 0 1");
}

/// Each call of a send-only end begins anew, and accepted frames are not lost.
#[tokio::test(start_paused = true)]
async fn a_sender_alone_tries_again_after_it_gave_up() {
    let script = Script::default();
    let mut sender = script
        .connection(Reconnect::new().attempts(2))
        .into_sender();
    sender.start_send_unpin("kept".into()).unwrap();
    for _ in 0..2 {
        let error = sender.flush().await.unwrap_err();
        assert!(GaveUp::of(&error).is_some(), "{error}");
    }
    assert_eq!(script.begun(), 4);
    let mut peer = script.peer();
    sender.flush().await.unwrap();
    assert_eq!(line(&mut peer).await, "kept");
}

#[tokio::test(start_paused = true)]
async fn a_frame_accepted_as_the_connection_broke_goes_to_the_next() {
    let script = Script::default();
    let peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    std::future::poll_fn(|cx| sink.poll_ready_unpin(cx))
        .await
        .unwrap();
    drop(peer);
    let mut second = script.peer();
    assert!(timeout(S, stream.next()).await.is_err());
    sink.start_send_unpin("kept".into()).unwrap();
    sink.send("next".into()).await.unwrap();
    assert_eq!(line(&mut second).await, "kept");
    assert_eq!(line(&mut second).await, "next");
}

/// Makes `connections` connections, one after the other. Each receives a frame and breaks.
async fn broken_with_a_frame_each(script: &Script, sink: &mut BoxFrameSink, connections: usize) {
    for n in 0..=connections {
        let mut peer = script.peer();
        // Notices that the previous one broke.
        sink.send("to".into()).await.unwrap();
        peer.write_all(format!("from {n}\n").as_bytes())
            .await
            .unwrap();
    }
}

/// They used to be dropped silently.
#[tokio::test(start_paused = true)]
async fn frames_dropped_beyond_the_limit_are_reported() {
    let script = Script::default();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    broken_with_a_frame_each(&script, &mut sink, MAX_UNREAD + 2).await;
    let unread = script.events().iter().filter(|it| *it == "unread").count();
    assert_eq!(unread, 2);
    for n in 2..MAX_UNREAD + 2 {
        assert_eq!(stream.next().await.unwrap().unwrap(), format!("from {n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_for_a_stream_that_was_dropped() {
    let script = Script::default();
    let (mut sink, stream) = script.connect(Reconnect::new());
    drop(stream);
    broken_with_a_frame_each(&script, &mut sink, MAX_UNREAD + 2).await;
    assert!(!script.events().iter().any(|it| it == "unread"));
}

#[tokio::test(start_paused = true)]
async fn arrived_messages_are_delivered_after_the_sink_failed() {
    let script = Script::default();
    let mut peer = script.peer();
    let (mut sink, mut stream) = script.connect(Reconnect::new());
    sink.send("one".into()).await.unwrap();
    peer.write_all(b"reply 1\nreply 2\nhal").await.unwrap();
    drop(peer);
    let mut second = script.peer();
    second.write_all(b"reply 3\n").await.unwrap();
    sink.send("two".into()).await.unwrap();
    for expected in ["reply 1", "reply 2"] {
        assert_eq!(stream.next().await.unwrap().unwrap(), expected);
    }
    // Line framing cannot report a truncated frame; length framing does.
    assert_eq!(stream.next().await.unwrap().unwrap(), "hal");
    assert_eq!(stream.next().await.unwrap().unwrap(), "reply 3");
}
