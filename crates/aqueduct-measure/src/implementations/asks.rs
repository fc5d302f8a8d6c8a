//! Requests of which several are under way at a time.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::coop::unconstrained;

use crate::case::Work;
use crate::check::Check;
use crate::message::{Item, Message};
use crate::session::{Receives, Sends, Session};

/// What an answer holds, where it holds something.
pub trait Checked: Send + 'static {
    /// Hands it to `check`.
    ///
    /// # Errors
    ///
    /// It is not the one that was to come.
    fn check(&self, check: &mut Check) -> anyhow::Result<()>;
}

impl Checked for Item {
    fn check(&self, check: &mut Check) -> anyhow::Result<()> {
        check.item(self)
    }
}

impl Checked for Bytes {
    fn check(&self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(self)
    }
}

/// The side that asks. One way, as many requests are under way as may be; in round trips, the answer
/// to each is what is received.
#[derive(Debug)]
pub struct Asks<C, F> {
    call: C,
    most: usize,
    under_way: FuturesUnordered<F>,
    work: Work,
}

impl<C, F, A> Asks<C, F>
where
    C: Fn(&'static Message) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<Option<A>>> + Send + 'static,
    A: Checked,
{
    /// With at most `most` requests under way, each of which `call` makes.
    pub fn new(session: &Session, most: usize, call: C) -> Self {
        Self {
            call,
            most,
            under_way: FuturesUnordered::new(),
            work: session.spec().work,
        }
    }

    async fn answer(&mut self) -> anyhow::Result<Option<A>> {
        // Else Tokio makes some of them yield before they have sent, and others overtake them.
        let answer = unconstrained(self.under_way.next()).await;
        answer.ok_or_else(|| anyhow::anyhow!("nothing was asked"))?
    }
}

impl<C, F, A> Sends for Asks<C, F>
where
    C: Fn(&'static Message) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<Option<A>>> + Send + 'static,
    A: Checked,
{
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        self.under_way.push((self.call)(message));
        if self.under_way.len() >= self.most {
            self.answer().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        // The answer to a round trip is what is received.
        while self.work == Work::OneWay && !self.under_way.is_empty() {
            self.answer().await?;
        }
        Ok(())
    }
}

impl<C, F, A> Receives for Asks<C, F>
where
    C: Fn(&'static Message) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<Option<A>>> + Send + 'static,
    A: Checked,
{
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let answer = self.answer().await?;
        answer
            .ok_or_else(|| anyhow::anyhow!("an empty answer"))?
            .check(check)
    }
}
