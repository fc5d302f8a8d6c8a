//! Requests and replies over a Unix socket, as `peer/tarpc` has them: one way, 64 are under way and are
//! answered with nothing; round trips go one at a time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use aqueduct::Channel;
use aqueduct::call::{Caller, Responder};
use aqueduct::codec::MessagePack;

use super::{connection, ended};
use crate::case::Work;
use crate::check::Check;
use crate::implementations::{Asks, UNDER_WAY, play};
use crate::message::{Item, Message};
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

/// The time limit that tarpc gives a request unasked.
const LIMIT: Duration = Duration::from_secs(10);

/// By [`Caller`] and [`Responder`].
pub(super) fn run(session: &Session) -> anyhow::Result<SideReport> {
    let connection = connection(session)?;
    if session.is_first() {
        let caller = session.exec().run(async move {
            let caller = Caller::<Item, Option<Item>>::new(connection, MessagePack)?;
            Ok(caller.timeout(LIMIT))
        })?;
        let call = move |message: &'static Message| {
            let caller = caller.clone();
            async move { Ok(caller.call(message.item).await?) }
        };
        return play(session, Asks::new(session, UNDER_WAY, call));
    }
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    let requests = Arc::clone(&asked);
    let one_way = session.spec().work == Work::OneWay;
    let answer = move |item: Item| {
        lock(&requests).push_back(item);
        std::future::ready((!one_way).then_some(item))
    };
    let responder = Responder::new(connection, MessagePack);
    let running = async move { Ok(responder.run(answer).await?) };
    play(
        session,
        Answers {
            running: Box::pin(running),
            asked,
        },
    )
}

/// Runs a responder while it waits for the next request.
struct Answers {
    running: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
    /// Requests that were answered and are not checked yet.
    asked: Arc<Mutex<VecDeque<Item>>>,
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sends for Answers {
    async fn send(&mut self, _: &'static Message) -> anyhow::Result<()> {
        // The handler has answered with its equal.
        Ok(())
    }
}

impl Receives for Answers {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let item = poll_fn(|cx| {
            let asked = || lock(&self.asked).pop_front();
            if let Some(item) = asked() {
                return Poll::Ready(Ok(item));
            }
            let over = self.running.as_mut().poll(cx);
            match (asked(), over) {
                (Some(item), _) => Poll::Ready(Ok(item)),
                (None, Poll::Ready(over)) => Poll::Ready(over.and(Err(ended()))),
                (None, Poll::Pending) => Poll::Pending,
            }
        });
        check.item(&item.await?)?;
        if check.is_over() {
            // Answers may still have to be written. The other side leaves when it has them.
            self.running.as_mut().await?;
        }
        Ok(())
    }
}

/// By a bare [`Channel`], whose replies come in the order of the requests.
pub(super) fn turns(session: &Session) -> anyhow::Result<SideReport> {
    let connection = connection(session)?;
    let one_way = session.spec().work == Work::OneWay;
    if session.is_first() {
        let channel = connection.channel(MessagePack);
        return play(
            session,
            Asking {
                channel,
                one_way,
                owed: 0,
            },
        );
    }
    let channel = connection.channel(MessagePack);
    let items = Vec::new();
    play(
        session,
        Answering {
            channel,
            one_way,
            items,
        },
    )
}

struct Asking {
    channel: Channel<Item, Option<Item>>,
    one_way: bool,
    owed: usize,
}

impl Sends for Asking {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        self.channel.feed(message.item).await?;
        self.owed += 1;
        if self.owed == UNDER_WAY {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.channel.flush().await?;
        // The reply to a round trip is what is received.
        while self.one_way && self.owed > 0 {
            self.channel.recv().await.ok_or_else(ended)??;
            self.owed -= 1;
        }
        Ok(())
    }
}

impl Receives for Asking {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let reply = self.channel.recv().await.ok_or_else(ended)??;
        self.owed -= 1;
        check.item(&reply.ok_or_else(|| anyhow::anyhow!("an empty reply"))?)
    }
}

struct Answering {
    channel: Channel<Option<Item>, Item>,
    one_way: bool,
    items: Vec<Result<Item, aqueduct::Error>>,
}

impl Sends for Answering {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.channel.feed(Some(message.item)).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.channel.flush().await?)
    }
}

impl Receives for Answering {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let most = if self.one_way { UNDER_WAY } else { 1 };
        let (sender, receiver) = self.channel.split_mut();
        if receiver.recv_many(&mut self.items, most).await == 0 {
            return Err(ended());
        }
        for item in self.items.drain(..) {
            check.item(&item?)?;
            if self.one_way {
                sender.feed(None).await?;
            }
        }
        if self.one_way {
            sender.flush().await?;
        }
        Ok(())
    }
}
