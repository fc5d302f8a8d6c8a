//! The cases that need no peer: system calls, Tokio with tokio-util, and Aqueduct.

mod aqueduct;
mod asks;
pub mod ends;
pub mod framed;
mod place;
mod raw;

use anyhow::Context;

pub use self::asks::{Asks, Checked};
use crate::case::{Case, Work};
use crate::check::Check;
use crate::message::Message;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

/// Requests under way: tarpc's server holds a hundred answers, a
/// [`Responder`](::aqueduct::call::Responder) handles 64.
pub const UNDER_WAY: usize = 64;

/// All of them.
pub fn all() -> Vec<Case> {
    [raw::CASES, framed::CASES, aqueduct::CASES, aqueduct::MORE].concat()
}

/// System calls, and Aqueduct in its usual way: each case is code of its own, which makes a program
/// that measures all of them large.
pub fn usual() -> Vec<Case> {
    [raw::CASES, aqueduct::CASES].concat()
}

/// What moves messages over an address that [`Runner::set_address`](crate::Runner::set_address) is
/// told: one that both processes can open.
pub fn address(two_way: bool) -> Case {
    if two_way {
        aqueduct::ADDRESS
    } else {
        aqueduct::ADDRESS_ONE_WAY
    }
}

/// Two one-way ends as one that can do round trips.
#[derive(Debug)]
pub struct Two<S, R> {
    /// Sends.
    pub tx: S,
    /// Receives.
    pub rx: R,
}

impl<S: Sends, R: Send + 'static> Sends for Two<S, R> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        self.tx.send(message).await
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.tx.flush().await
    }
}

impl<S: Send + 'static, R: Receives> Receives for Two<S, R> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        self.rx.receive(check).await
    }
}

/// Plays this side with an end that can do both.
///
/// # Errors
///
/// What the case reports.
pub fn play<D: Sends + Receives>(session: &Session, both: D) -> anyhow::Result<SideReport> {
    match (session.spec().work, session.is_first()) {
        (Work::OneWay, true) => session.sender(both),
        (Work::OneWay, false) => session.receiver(both),
        (Work::RoundTrip, true) => session.client(both),
        (Work::RoundTrip, false) => session.server(both),
    }
}

fn ended() -> anyhow::Error {
    anyhow::anyhow!("the stream has ended")
}

/// An end, of two that may both be needed, that this side has.
pub(crate) fn need<T>(end: Option<T>) -> anyhow::Result<T> {
    end.context("this end was not opened")
}

/// Plays this side with two one-way ends, each of which is opened where it is needed.
pub(crate) fn play_halves<S: Sends, R: Receives>(
    session: &Session,
    (tx, rx): (Option<S>, Option<R>),
) -> anyhow::Result<SideReport> {
    match (session.spec().work, session.is_first()) {
        (Work::OneWay, true) => session.sender(need(tx)?),
        (Work::OneWay, false) => session.receiver(need(rx)?),
        (Work::RoundTrip, first) => {
            let (tx, rx) = (need(tx)?, need(rx)?);
            if first {
                session.client(Two { tx, rx })
            } else {
                session.server(Two { tx, rx })
            }
        }
    }
}
