//! Over ends of the user's own, here to a task by a channel, which tell at other moments that they broke.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aqueduct::Reconnect;
use aqueduct::reconnect::Error;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::quick;
use crate::support::deadline;

struct ToTask(UnboundedSender<Bytes>);

impl Sink<Bytes> for ToTask {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.is_closed() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        self.0.send(frame).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Ends = (ToTask, BoxStream<'static, io::Result<Bytes>>);

/// The task's side of a connection: what it is sent, and what its connection ends with.
struct Task {
    frames: UnboundedReceiver<Bytes>,
    _answers: UnboundedSender<Bytes>,
}

#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<VecDeque<Ends>>>);

impl Tasks {
    /// One to connect to, behind those that are there.
    fn add(&self) -> Task {
        let (sender, frames) = unbounded_channel();
        let (answers, mut answered) = unbounded_channel();
        let answered = stream::poll_fn(move |cx| answered.poll_recv(cx).map(|it| it.map(Ok)));
        let ends = (ToTask(sender), answered.boxed());
        self.0.lock().expect("nobody panics").push_back(ends);
        Task {
            frames,
            _answers: answers,
        }
    }

    fn client(&self) -> Reconnect {
        let tasks = self.clone();
        quick().connect(move || {
            let next = tasks.0.lock().expect("nobody panics").pop_front();
            async { next.ok_or(ErrorKind::ConnectionRefused.into()) }
        })
    }
}

/// It has found room on a connection that then ended, and the next one breaks before it takes it.
#[tokio::test]
async fn a_frame_that_no_connection_has_taken_yet_goes_to_the_one_that_does() {
    let tasks = Tasks::default();
    let first = tasks.add();
    let (mut sink, mut stream) = tasks.client().into_split();
    deadline(poll_fn(|cx| sink.poll_ready_unpin(cx)))
        .await
        .expect("there is room");
    drop(first);
    assert!(stream.next().now_or_never().is_none(), "it has ended");
    sink.start_send_unpin("kept".into()).expect("it is let in");
    let mut second = tasks.add();
    second.frames.close();
    let mut third = tasks.add();
    deadline(sink.flush()).await.expect("nothing was lost");
    assert_eq!(
        deadline(third.frames.recv()).await.expect("it comes"),
        "kept"
    );
    assert!(second.frames.recv().await.is_none());
}

#[tokio::test]
async fn a_frame_given_to_a_connection_that_fails_is_told_of_and_not_sent_again() {
    let tasks = Tasks::default();
    let mut first = tasks.add();
    let mut client = tasks.client();
    deadline(poll_fn(|cx| client.poll_ready_unpin(cx)))
        .await
        .expect("there is room");
    first.frames.close();
    let error = client.start_send_unpin("lost".into()).unwrap_err();
    let told = Error::of(&error);
    assert!(
        matches!(told, Some(Error::Unflushed { frames: 1, .. })),
        "{error}"
    );
    let mut second = tasks.add();
    deadline(client.send("next".into()))
        .await
        .expect("it is sent");
    let came = deadline(second.frames.recv()).await;
    assert_eq!(came.expect("it comes"), "next");
}
