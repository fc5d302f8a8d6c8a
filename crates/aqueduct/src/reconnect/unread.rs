use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::task::coop;

use crate::frame::BoxFrameStream;

/// How many connections that broke are kept for frames which they had received and nobody has taken.
///
/// Each holds its descriptor until then. Of one more the oldest is dropped, with its frames, which
/// [`Event::Unread`](super::Event::Unread) tells. It takes a sink that is used through so many losses
/// while the stream is not; drop a stream that nobody reads, and none is kept.
pub const MAX_UNREAD: usize = 8;

/// The streams of connections that the sink found broken, oldest first: they may have received more.
#[derive(Default)]
pub(super) struct Unread {
    streams: VecDeque<BoxFrameStream>,
    /// Nobody will read them.
    refused: bool,
}

impl Unread {
    /// Keeps one. `false`: another one was dropped for it.
    pub(super) fn keep(&mut self, stream: BoxFrameStream) -> bool {
        if self.refused {
            return true;
        }
        self.streams.push_back(stream);
        if self.streams.len() <= MAX_UNREAD {
            return true;
        }
        self.streams.pop_front();
        false
    }

    /// Keeps none any more.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
        self.streams.clear();
    }

    /// The next frame; `None` if all that had arrived was given.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(stream) = self.streams.front_mut() {
            match stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(frame)),
                // It had to wait for its turn, not for the peer.
                Poll::Pending if !coop::has_budget_remaining() => return Poll::Pending,
                _ => drop(self.streams.pop_front()),
            }
        }
        Poll::Ready(None)
    }
}
