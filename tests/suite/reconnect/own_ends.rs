//! Over ends of the user's own, here to a task by a channel, which tell at other moments that they broke.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aqueduct::connect::{Connection, ReconnectEvent};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::quick;
use crate::support::deadline;

/// A sink to a task. An `invalid` one fails as a transport does that was given a bad argument.
struct ToTask {
    frames: UnboundedSender<Bytes>,
    invalid: bool,
}

impl Sink<Bytes> for ToTask {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.is_closed() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        if self.invalid {
            return Err(ErrorKind::InvalidInput.into());
        }
        let sent = self.frames.send(frame);
        sent.map_err(|_| ErrorKind::BrokenPipe.into())
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
        self.add_one(false)
    }

    fn add_one(&self, invalid: bool) -> Task {
        let (sender, frames) = unbounded_channel();
        let (answers, mut answered) = unbounded_channel();
        let answered = stream::poll_fn(move |cx| answered.poll_recv(cx).map(|it| it.map(Ok)));
        let to_task = ToTask {
            frames: sender,
            invalid,
        };
        let ends = (to_task, answered.boxed());
        self.0.lock().expect("nobody panics").push_back(ends);
        Task {
            frames,
            _answers: answers,
        }
    }

    /// A client, and what is at risk with each connection that it loses.
    fn client(&self) -> (Connection, UnboundedReceiver<u64>) {
        let tasks = self.clone();
        let (losses, lost) = unbounded_channel();
        let policy = quick().on_event(move |event| {
            if let ReconnectEvent::Lost { at_risk, .. } = event {
                let _ = losses.send(*at_risk);
            }
        });
        let client = policy.connect(move || {
            let next = tasks.0.lock().expect("nobody panics").pop_front();
            async {
                let (sink, stream) = next.ok_or(ErrorKind::ConnectionRefused)?;
                Ok(Connection::from_frames(sink, stream, 1024))
            }
        });
        (client, lost)
    }
}

/// It has found room on a connection that then ended, and the next one breaks before it takes it.
#[tokio::test]
async fn a_frame_that_no_connection_took_goes_to_the_next() {
    let tasks = Tasks::default();
    let first = tasks.add();
    let (mut sink, mut stream) = tasks.client().0.into_frames();
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

/// It is reported instead.
#[tokio::test]
async fn a_frame_given_to_a_failing_connection_is_not_sent_again() {
    let tasks = Tasks::default();
    let mut first = tasks.add();
    let (client, mut lost) = tasks.client();
    let (mut sink, _stream) = client.into_frames();
    deadline(poll_fn(|cx| sink.poll_ready_unpin(cx)))
        .await
        .expect("there is room");
    first.frames.close();
    sink.start_send_unpin("lost".into()).expect("it is let in");
    assert_eq!(lost.recv().await, Some(1));
    let mut second = tasks.add();
    deadline(sink.send("next".into()))
        .await
        .expect("it is sent");
    let came = deadline(second.frames.recv()).await;
    assert_eq!(came.expect("it comes"), "next");
}

/// Any error of this kind was taken for a refusal of one message, after which the connection goes on.
#[tokio::test]
async fn invalid_input_of_a_transport_is_a_broken_connection() {
    let tasks = Tasks::default();
    let _first = tasks.add_one(true);
    let mut second = tasks.add();
    let (client, mut lost) = tasks.client();
    let mut sender = client.into_sender();
    for message in ["one", "two"] {
        let sent = deadline(sender.send(message.into())).await;
        sent.expect("it is no error of the message");
    }
    assert_eq!(lost.recv().await, Some(1));
    let came = deadline(second.frames.recv()).await;
    assert_eq!(came.expect("it comes"), "two");
}
