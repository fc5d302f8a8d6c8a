//! [`OnFail`]: where messages go whose program has failed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::connect::{Message, MessageSender, Options};
use aqueduct::endpoint::Awaited;
use aqueduct::frame::FrameError;
use futures_util::{Sink, SinkExt};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::config::{LinkConfig, OnFailConfig, refused};
use crate::report::{Report, about};
use crate::terminal;

/// A message that has to wait longer than this is told of.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon it is tried again where the other side fails.
const PAUSE: Duration = Duration::from_millis(250);
/// `EMSGSIZE` on Linux: a queue's message is too large for it.
const TOO_LARGE: i32 = 90;

/// The place for failed messages. It is waited for as long as it takes.
pub(super) struct OnFail {
    endpoint: Endpoint,
    link: LinkConfig,
    options: Options,
    report: Report,
    /// That somebody waits was told.
    told: AtomicBool,
    /// Messages that the address can never carry.
    lost: AtomicU64,
    end: Mutex<End>,
}

#[derive(Default)]
struct End {
    /// `None` until it is needed, and after it has failed.
    outgoing: Option<MessageSender>,
    /// The message that is on its way.
    unsent: Option<Message>,
    /// Whether the sink has taken it: then it is only to be flushed.
    taken: bool,
}

impl OnFail {
    /// Opens a queue at once, to find mistakes before any message fails. Addresses that need a peer
    /// are opened for the first message that fails.
    pub(super) async fn open(config: &OnFailConfig, report: Report) -> anyhow::Result<Self> {
        let mut options = config.link.options();
        options.wait(None);
        let mut end = End::default();
        let capabilities = config.endpoint.capabilities();
        if capabilities.outlives_processes && capabilities.awaits == Awaited::Nobody {
            end.outgoing = Some(options.open_sender(&config.endpoint).await?);
        }
        Ok(Self {
            endpoint: config.endpoint.clone(),
            link: config.link.clone(),
            options,
            report,
            told: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            end: Mutex::new(end),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many messages were lost: those that the address can never carry. Each was told of.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends the message, and takes it out of `message` once it is in hand here. Dropped before
    /// that, it leaves it there; dropped after that, the message goes out with the next one or with
    /// [`close`](Self::close).
    pub(super) async fn send(&self, message: &mut Option<Message>) {
        let sending = async {
            let mut end = self.end.lock().await;
            // The last one, if its sender was dropped.
            self.flush(&mut end).await;
            end.unsent = message.take();
            self.flush(&mut end).await;
        };
        tokio::pin!(sending);
        tokio::select! {
            biased;
            () = &mut sending => {}
            () = sleep(PATIENCE) => {
                self.tell("nothing receives from it, or it is full");
                sending.await;
            }
        }
        self.told.store(false, Ordering::Relaxed);
    }

    /// How many messages are in hand and not sent: 1 or none.
    pub(super) async fn in_hand(&self) -> u64 {
        self.end.lock().await.unsent.is_some().into()
    }

    /// Sends what is still in hand.
    pub(super) async fn close(&self) {
        let mut end = self.end.lock().await;
        self.flush(&mut end).await;
        // The peer is to get all before it is told of the end.
        if let Some(outgoing) = &mut end.outgoing {
            let _ = outgoing.close().await;
        }
    }

    /// Sends what is unsent, by as many connections as it takes.
    async fn flush(&self, end: &mut End) {
        while let Some(message) = &mut end.unsent {
            let outgoing = match &mut end.outgoing {
                Some(outgoing) => outgoing,
                closed => match self.connect().await {
                    Ok(outgoing) => closed.insert(outgoing),
                    Err(error) => {
                        self.tell(error);
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let given = give(outgoing, message, &mut end.taken).await;
            end.taken = false;
            match given {
                Ok(()) => {
                    if let Some(message) = end.unsent.take() {
                        settle(message);
                    }
                }
                Err(error) if is_refused(&error) => {
                    let fate = match message.take_receipt() {
                        Some(_) => "given back",
                        None => {
                            self.lost.fetch_add(1, Ordering::Relaxed);
                            "lost"
                        }
                    };
                    let (address, reason) = (&self.endpoint, refused("it", &error));
                    self.report.frequent_failure(format_args!(
                        "a failed message is {fate}, {address} cannot take it: {reason}"
                    ));
                }
                Err(error) => {
                    // What was taken went down with it.
                    end.outgoing = None;
                    self.tell(error);
                    sleep(PAUSE).await;
                    continue;
                }
            }
            end.unsent = None;
        }
    }

    async fn connect(&self) -> anyhow::Result<MessageSender> {
        match terminal::sender(&self.endpoint, &self.link)? {
            Some(terminal) => Ok(terminal),
            None => Ok(self.options.open_sender(&self.endpoint).await?),
        }
    }

    fn tell(&self, reason: impl std::fmt::Display) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.report.frequent_failure(format_args!(
                "a failed message waits for {}: {reason:#}",
                about(&self.endpoint)
            ));
        }
    }
}

/// Sends a message, noting when the sink has it: dropped and called again, it goes on from there.
async fn give(outgoing: &mut MessageSender, message: &Message, taken: &mut bool) -> io::Result<()> {
    if !*taken {
        poll_fn(|cx| Pin::new(&mut *outgoing).poll_ready(cx)).await?;
        outgoing.start_send_unpin(message.clone())?;
        *taken = true;
    }
    outgoing.flush().await
}

/// The message is dealt with: it is not delivered again.
pub(super) fn settle(mut message: Message) {
    if let Some(receipt) = message.take_receipt() {
        receipt.settle();
    }
}

/// Whether the message is at fault, and not the way there.
fn is_refused(error: &io::Error) -> bool {
    FrameError::of(error).is_some()
        || error.raw_os_error() == Some(TOO_LARGE)
        || error.kind() == io::ErrorKind::InvalidInput
}
