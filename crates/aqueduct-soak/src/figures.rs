//! What is counted, and what the contract allows.

use std::collections::HashMap;
use std::time::Duration;

use crate::fault::{Fault, Faults};
use crate::ledger::{Progress, Record};

/// The figures of one mechanism.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) sessions: u64,
    /// That were received.
    pub(crate) messages: u64,
    pub(crate) faults: Faults,
    /// Connections that ended before their time: cut, or by the death of either side.
    pub(crate) breaks: u64,
    /// That a killed process, or a connection that broke, took with it.
    pub(crate) lost: u64,
    /// How many the contract allows for these kills and breaks.
    pub(crate) may_lose: u64,
    /// More than the contract allows.
    pub(crate) lost_beyond: u64,
    pub(crate) doubled: u64,
    pub(crate) torn: u64,
    pub(crate) hung: u64,
    pub(crate) leaked: u64,
    /// The longest time from a path's replacement to the first message of a new sender.
    pub(crate) slowest: Duration,
    /// Everything that the contract does not allow, in words.
    pub(crate) wrong: Vec<String>,
}

impl Figures {
    pub(crate) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    pub(crate) fn did(&mut self, fault: Fault) {
        self.faults.count(fault, 1);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.faults.add(&other.faults);
        self.breaks += other.breaks;
        self.lost += other.lost;
        self.may_lose += other.may_lose;
        self.lost_beyond += other.lost_beyond;
        self.doubled += other.doubled;
        self.torn += other.torn;
        self.hung += other.hung;
        self.leaked += other.leaked;
        self.slowest = self.slowest.max(other.slowest);
        self.wrong.extend(other.wrong.iter().cloned());
    }

    /// The columns of the summary.
    pub(crate) fn columns(&self) -> Vec<(&'static str, u64)> {
        let mut columns = vec![("sessions", self.sessions), ("messages", self.messages)];
        columns.extend(self.faults.each());
        columns.extend([
            ("breaks", self.breaks),
            ("lost", self.lost),
            ("may lose", self.may_lose),
            ("beyond", self.lost_beyond),
            ("doubled", self.doubled),
            ("torn", self.torn),
            ("hung", self.hung),
            ("leaked", self.leaked),
        ]);
        columns
    }

    /// As [`compare_in_any_order`](Self::compare_in_any_order), and in order at each receiver.
    pub(crate) fn compare(
        &mut self,
        senders: &[(u32, Progress)],
        receivers: &[Vec<Record>],
    ) -> HashMap<u32, Vec<u64>> {
        for received in receivers {
            let mut last: HashMap<u32, u64> = HashMap::new();
            for (sender, number) in received.iter().flatten() {
                let before = last.insert(*sender, *number);
                if before.is_some_and(|it| it > *number) {
                    self.wrong(format!(
                        "{number} of sender {sender} came after {before:?}, out of order"
                    ));
                }
            }
        }
        self.compare_in_any_order(senders, receivers)
    }

    /// Counts what came against what was sent: torn, doubled, invented. Returns the numbers that are
    /// missing, by sender: those that were handed over, and those before one that came.
    pub(crate) fn compare_in_any_order(
        &mut self,
        senders: &[(u32, Progress)],
        receivers: &[Vec<Record>],
    ) -> HashMap<u32, Vec<u64>> {
        let mut came: HashMap<u32, Vec<u64>> = HashMap::new();
        for record in receivers.iter().flatten() {
            self.messages += 1;
            let Some((sender, number)) = *record else {
                self.torn += 1;
                self.wrong("a message was torn".into());
                continue;
            };
            came.entry(sender).or_default().push(number);
        }
        let mut missing = HashMap::new();
        for (sender, progress) in senders {
            let mut numbers = came.remove(sender).unwrap_or_default();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            let doubled = (all - numbers.len()) as u64;
            if doubled > 0 {
                self.doubled += doubled;
                self.wrong(format!("{doubled} of sender {sender} came twice"));
            }
            let end = numbers.last().map_or(0, |it| it + 1);
            if end > progress.begun {
                self.torn += 1;
                self.wrong(format!(
                    "{} of sender {sender} came, which has begun {}",
                    end - 1,
                    progress.begun
                ));
            }
            let due = progress.done.max(end);
            let mut next = numbers.iter().copied().peekable();
            let lacks = (0..due)
                .filter(|it| next.next_if_eq(it).is_none())
                .collect();
            missing.insert(*sender, lacks);
        }
        if !came.is_empty() {
            let unknown = came.len() as u64;
            self.torn += unknown;
            self.wrong(format!("messages came of {unknown} senders that are none"));
        }
        missing
    }

    /// Counts lost messages of which so many may be.
    pub(crate) fn losses(&mut self, lost: u64, may_lose: u64, why: &str) {
        self.lost += lost;
        self.may_lose += may_lose;
        if lost > may_lose {
            self.lost_beyond += lost - may_lose;
            self.wrong(format!("{lost} lost, {may_lose} allowed: {why}"));
        }
    }
}
