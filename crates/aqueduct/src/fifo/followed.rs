//! [`Followed`]: messages of the FIFO at a path, also after it is removed or replaced.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;

use super::TARGET;
use super::name::shown;
use super::open::{OpenOptions, settled};
use super::receiver::Receiver;
use crate::connect::{Inlet, Message, MessageReceiver, OpenError, OpenErrorKind, Options};
use crate::frame::Pace;
use crate::io::timer::sleep;

/// How often it is tried again where another sole receiver has just left, or came at the same moment.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// The receiving end of a persistent FIFO whose name is watched.
///
/// A writer can have the old FIFO open after another one has taken its place. So the old one is
/// read until its last writer closes it, at the same time as the new one, and nothing is lost.
pub(super) struct Followed {
    how: Options,
    options: OpenOptions,
    path: PathBuf,
    state: State,
    /// FIFOs that were replaced and still have writers.
    older: Vec<MessageReceiver>,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
}

enum State {
    Open(Open),
    /// The path names something else or nothing; until that has settled and the FIFO is open.
    Lost(Pin<Box<dyn Future<Output = Result<Receiver, OpenError>> + Send>>),
    /// It has ended, been stopped or failed to open.
    Ended,
}

struct Open {
    messages: MessageReceiver,
    /// Set when the path names another file.
    lost: Arc<AtomicBool>,
}

impl Followed {
    /// Goes on with the FIFO at `path` that `receiver` has open.
    pub(super) fn of(
        receiver: Receiver,
        options: OpenOptions,
        path: PathBuf,
        how: Options,
    ) -> MessageReceiver {
        let open = Open::new(receiver, &how);
        MessageReceiver::new(Self {
            how,
            options,
            // Resolved now, whatever the working directory is later.
            path: std::path::absolute(&path).unwrap_or(path),
            state: State::Open(open),
            older: Vec::new(),
            left: None,
        })
    }

    /// Polls the FIFO at the path.
    fn poll_current(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Message>>> {
        loop {
            match &mut self.state {
                State::Open(open) => {
                    let next = open.messages.poll_next_unpin(cx);
                    if !open.lost.load(Ordering::Acquire) {
                        return next;
                    }
                    tracing::warn!(
                        target: TARGET,
                        path = shown(&self.path),
                        "the FIFO was removed or replaced: opening the new one"
                    );
                    let (options, path) = (self.options.clone(), self.path.clone());
                    let again = async move {
                        settled(&path).await;
                        open_receiver(&options, &path).await
                    };
                    let lost = State::Lost(Box::pin(again));
                    let State::Open(old) = std::mem::replace(&mut self.state, lost) else {
                        continue;
                    };
                    match next {
                        Poll::Ready(Some(Ok(message))) => {
                            self.older.push(old.messages);
                            return Poll::Ready(Some(Ok(message)));
                        }
                        Poll::Pending => self.older.push(old.messages),
                        Poll::Ready(Some(Err(error))) => self.give_up(&error),
                        Poll::Ready(None) => {}
                    }
                }
                State::Lost(again) => match ready!(again.as_mut().poll(cx)) {
                    Ok(receiver) => {
                        let mut open = Open::new(receiver, &self.how);
                        if let Some(left) = self.left {
                            open.messages.limit(left);
                        }
                        self.state = State::Open(open);
                    }
                    Err(error) => {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Polls the FIFOs that were replaced; `None`: all have ended.
    fn poll_older(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        // The rest of an unfinished message is the last that may be taken.
        if self.left == Some(1)
            && let State::Open(open) = &mut self.state
            && open.messages.unfinished() > 0
        {
            return Poll::Pending;
        }
        let mut pending = false;
        let mut at = 0;
        while let Some(older) = self.older.get_mut(at) {
            match older.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(message)),
                Poll::Ready(end) => {
                    drop(self.older.swap_remove(at));
                    if let Some(Err(error)) = end {
                        self.give_up(&error);
                    }
                }
                Poll::Pending => {
                    if self.left == Some(1) && older.unfinished() > 0 {
                        return Poll::Pending;
                    }
                    pending = true;
                    at += 1;
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(None),
        }
    }

    fn give_up(&self, error: &io::Error) {
        let path = shown(&self.path);
        tracing::warn!(target: TARGET, path, %error, "gave up the replaced FIFO");
    }

    /// Counts a delivered message.
    fn delivered(&mut self) {
        if let Some(left) = self.left {
            let left = left.saturating_sub(1);
            self.limit_all(left);
        }
    }

    fn limit_all(&mut self, left: u64) {
        self.left = Some(left);
        if let State::Open(open) = &mut self.state {
            open.messages.limit(left);
        }
        self.older.iter_mut().for_each(|it| it.limit(left));
    }
}

impl Open {
    fn new(mut receiver: Receiver, how: &Options) -> Self {
        let lost = receiver.outlive_its_name();
        let messages = how.receive(receiver, Pace::pipe());
        Self { messages, lost }
    }
}

impl Stream for Followed {
    type Item = io::Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        let older = match this.poll_older(cx) {
            Poll::Ready(Some(message)) => {
                this.delivered();
                return Poll::Ready(Some(Ok(message)));
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        };
        if this.left == Some(1) && this.older.iter_mut().any(|it| it.unfinished() > 0) {
            return Poll::Pending;
        }
        match this.poll_current(cx) {
            Poll::Ready(Some(item)) => {
                if item.is_ok() {
                    this.delivered();
                }
                Poll::Ready(Some(item))
            }
            Poll::Ready(None) => {
                this.state = State::Ended;
                older
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Inlet for Followed {
    fn stop(mut self: Pin<&mut Self>) {
        let this = &mut *self;
        match &mut this.state {
            State::Open(open) => open.messages.stop(),
            State::Lost(_) => this.state = State::Ended,
            State::Ended => {}
        }
        this.older.iter_mut().for_each(MessageReceiver::stop);
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.limit_all(count);
    }

    fn unfinished(mut self: Pin<&mut Self>) -> usize {
        let this = &mut *self;
        let current = match &mut this.state {
            State::Open(open) => open.messages.unfinished(),
            State::Lost(_) | State::Ended => 0,
        };
        let older: usize = this.older.iter_mut().map(MessageReceiver::unfinished).sum();
        current + older
    }
}

/// Opens the receiving end; if it is to be the only one, tries again where another one may just be
/// leaving.
pub(super) async fn open_receiver(
    options: &OpenOptions,
    path: &Path,
) -> Result<Receiver, OpenError> {
    let mut attempt = 0;
    loop {
        match options.open_receiver(path) {
            Err(e) if e.kind() == &OpenErrorKind::InUse && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
        // Not all at the same pace.
        sleep(PAUSE * attempt + PAUSE * (std::process::id() % 8) / 8).await;
    }
}
