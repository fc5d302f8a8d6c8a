//! The receiving end.

mod arrival;
mod backlog;
mod pull;
mod subscription;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::pull::Engine;
use super::connection::{Line, Target};
use crate::connect::{Inlet, Message, MessageReceiver, OpenError};

/// Opens the receiving end.
pub(super) async fn receiver(target: Target, line: Line) -> Result<MessageReceiver, OpenError> {
    // Bounded by the window.
    let (to_end, messages) = mpsc::channel(target.address.window());
    let stop = CancellationToken::new();
    let incoming = Incoming {
        messages,
        stop: stop.clone(),
        left: None,
    };
    if line.stream.is_none() {
        subscription::begin(target, line, to_end, stop).await?;
    } else {
        let consumer = target.consumer(&line).await?;
        tokio::spawn(Engine::new(target, to_end, stop).run(line, consumer));
    }
    Ok(MessageReceiver::new(incoming))
}

struct Incoming {
    messages: mpsc::Receiver<io::Result<Message>>,
    stop: CancellationToken,
    left: Option<u64>,
}

impl Stream for Incoming {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = ready!(self.messages.poll_recv(cx));
            match (&mut self.left, &next) {
                // Given back.
                (Some(0), Some(Ok(_))) => {}
                (Some(left), Some(Ok(_))) => {
                    *left -= 1;
                    if *left == 0 {
                        self.stop.cancel();
                    }
                    return Poll::Ready(next);
                }
                _ => return Poll::Ready(next),
            }
        }
    }
}

impl Inlet for Incoming {
    fn stop(self: Pin<&mut Self>) {
        self.stop.cancel();
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
        if count == 0 {
            self.stop.cancel();
        }
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
