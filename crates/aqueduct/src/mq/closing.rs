//! [`Closing`]: how a sink ends, and tells the receivers so if they agreed on that.

use std::io;
use std::num::NonZeroUsize;
use std::task::{Context, Poll, ready};

use crate::io::source::Direction;
use crate::mq::driver::Waiting;
use crate::mq::{Error, Priority, Queue};

/// The priority of the empty messages that announce an end: the lowest, so that all that was sent
/// before comes before.
const END_PRIORITY: Priority = 0;

/// Whether a sink is closed, and how many ends it has still to announce.
#[derive(Debug, Default)]
pub(super) struct Closing {
    announces: Option<NonZeroUsize>,
    // Set when closing begins.
    left: Option<usize>,
}

impl Closing {
    pub(super) fn announce_to(&mut self, receivers: NonZeroUsize) {
        self.announces = Some(receivers);
    }

    /// Refuses what comes after the end.
    pub(super) fn check_open(&self, queue: &Queue) -> Result<(), Error> {
        match self.left {
            None => Ok(()),
            Some(_) => Err(Error::Closed {
                name: queue.name().to_owned(),
            }),
        }
    }

    /// Refuses what would look like the end.
    pub(super) fn check_body(&self, body: &[u8], queue: &Queue) -> Result<(), Error> {
        if body.is_empty() && self.announces.is_some() {
            let name = queue.name().to_owned();
            return Err(Error::EmptyMessage { name });
        }
        Ok(())
    }

    /// Closes, and announces what is still to be announced.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wait: &mut Waiting,
        queue: &Queue,
    ) -> Poll<io::Result<()>> {
        let announces = self.announces.map_or(0, NonZeroUsize::get);
        let left = self.left.get_or_insert(announces);
        while *left > 0 {
            let announce = || queue.send_checked(END_PRIORITY, &[]);
            ready!(wait.poll(cx, queue.side(Direction::Write), announce))?;
            *left -= 1;
        }
        Poll::Ready(Ok(()))
    }
}
