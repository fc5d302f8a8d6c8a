//! What a receiver does with each message: verify, count, and tell the phases apart.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::message::{Item, LAST, Ring, START, TAIL};
use crate::usage::Usage;

/// Verifies and counts messages.
///
/// The same for every case: the length, the first and the last eight bytes, and the place in the
/// sequence; all bytes of a message while warming up.
#[derive(Debug)]
pub struct Check {
    ring: &'static Ring,
    size: usize,
    /// The place of the next message.
    next: u64,
    ring_len: u64,
    /// Whether messages of several senders may mix.
    any_order: bool,
    phase: Phase,
    /// Messages since the warm-up.
    count: u64,
    begun: Option<(Instant, Usage)>,
    /// When, what it had cost, and how many messages had come.
    ended: Option<(Instant, Usage, u64)>,
    senders: u64,
    lasts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

impl Check {
    pub(crate) fn new(ring: &'static Ring, senders: u64) -> Self {
        Self {
            ring,
            size: ring.get(0).bytes.len(),
            next: 0,
            ring_len: ring.len() as u64,
            any_order: senders > 1,
            phase: Phase::WarmUp,
            count: 0,
            begun: None,
            ended: None,
            senders,
            lasts: 0,
        }
    }

    /// Of one of several receivers: any message may come, and all that come are counted.
    pub(crate) fn with_receivers(mut self, receivers: u64) -> anyhow::Result<Self> {
        if receivers > 1 {
            self.any_order = true;
            self.phase = Phase::Measured;
            self.begun = Some((Instant::now(), Usage::now()?));
        }
        Ok(self)
    }

    /// One message, as bytes.
    ///
    /// # Errors
    ///
    /// It is not the one that was to come.
    #[inline]
    pub fn frame(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let (Some(head), Some(tail)) = (body.first_chunk(), body.last_chunk()) else {
            bail!("a message of {} bytes came", body.len());
        };
        self.ends(body.len(), *head, *tail, Some(body))
    }

    /// One message of `len` bytes, of which only the ends were read, unless it is there.
    ///
    /// # Errors
    ///
    /// It is not the one that was to come.
    #[inline]
    pub(crate) fn ends(
        &mut self,
        len: usize,
        head: [u8; 8],
        tail: [u8; 8],
        body: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        let (head, tail) = (u64::from_le_bytes(head), u64::from_le_bytes(tail));
        if len != self.size || tail != head ^ TAIL {
            bail!("a damaged message of {len} bytes came");
        }
        if self.phase != Phase::Measured || head != self.next {
            return self.unusual(head, body);
        }
        self.advance();
        Ok(())
    }

    /// One message, as a value.
    ///
    /// # Errors
    ///
    /// It is not the one that was to come.
    #[inline]
    pub fn item(&mut self, item: &Item) -> anyhow::Result<()> {
        if item.tail != item.head ^ TAIL {
            bail!("a damaged value came");
        }
        if self.phase != Phase::Measured || item.head != self.next {
            if self.phase == Phase::WarmUp && item.head < self.ring_len {
                anyhow::ensure!(*item == self.ring.get(item.head as usize).item);
            }
            return self.unusual(item.head, None);
        }
        self.advance();
        Ok(())
    }

    #[inline]
    fn advance(&mut self) {
        self.count += 1;
        self.next += 1;
        if self.next == self.ring_len {
            self.next = 0;
        }
    }

    #[cold]
    #[inline(never)]
    fn unusual(&mut self, head: u64, body: Option<&[u8]>) -> anyhow::Result<()> {
        match (self.phase, head) {
            (Phase::WarmUp, START) => {
                // They begin together; one that gets no turn for long must not hold up the others.
                self.begun = Some((Instant::now(), Usage::now()?));
                self.phase = Phase::Measured;
            }
            (Phase::WarmUp, _) if head == self.next || self.any_order && head < self.ring_len => {
                if let Some(body) = body {
                    let expected = &self.ring.get(head as usize).bytes;
                    anyhow::ensure!(body == expected, "a damaged message came");
                }
                self.advance();
                self.count = 0;
            }
            (Phase::Measured | Phase::WarmUp, LAST) => {
                self.count += 1;
                self.lasts += 1;
                anyhow::ensure!(self.begun.is_some(), "the last message came first");
                if self.ended.is_none() {
                    self.ended = Some((Instant::now(), Usage::now()?, self.count));
                }
                if self.lasts == self.senders {
                    self.phase = Phase::Over;
                }
            }
            (Phase::Measured, _) if self.any_order && (head < self.ring_len || head == START) => {
                self.count += 1;
            }
            _ => bail!("message {head:#x} came, {:#x} was to come", self.next),
        }
        Ok(())
    }

    /// Ends what is measured when it has lasted for so long, while all senders send, and says so
    /// once; the clock is looked at every 64 messages.
    pub(crate) fn end_after(&mut self, time: Duration) -> anyhow::Result<bool> {
        let Some((begun, _)) = self.begun else {
            return Ok(false);
        };
        if self.ended.is_some() || !self.count.is_multiple_of(64) || begun.elapsed() < time {
            return Ok(false);
        }
        self.ended = Some((Instant::now(), Usage::now()?, self.count));
        Ok(true)
    }

    /// The place of the message that comes next, in the ring.
    pub fn next_index(&self) -> usize {
        self.next as usize
    }

    /// Whether the warm-up is over.
    pub fn is_measuring(&self) -> bool {
        self.phase != Phase::WarmUp
    }

    /// Whether the last message has come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Messages since the warm-up, the seconds they took and what they cost this process.
    pub(crate) fn result(&self) -> Option<(u64, f64, Usage)> {
        let ((begun, before), (ended, after, count)) = (self.begun?, self.ended?);
        Some((count, (ended - begun).as_secs_f64(), after - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a whole warm-up.
    fn measuring() -> (&'static Ring, Check) {
        let ring = Ring::new(64);
        let mut check = Check::new(ring, 1);
        check.frame(&ring.get(0).bytes).unwrap();
        check.frame(&ring.start().bytes).unwrap();
        assert!(check.is_measuring());
        (ring, check)
    }

    #[test]
    fn what_comes_in_order_is_counted_after_the_warm_up() {
        let (ring, mut check) = measuring();
        for index in [1, 2] {
            assert_eq!(check.next_index(), index);
            check.frame(&ring.get(index).bytes).unwrap();
        }
        check.item(&ring.get(3).item).unwrap();
        check.frame(&ring.last().bytes).unwrap();
        assert!(check.is_over());
        assert_eq!(check.result().unwrap().0, 4);
    }

    #[test]
    fn several_senders_are_measured_until_they_are_to_stop() {
        let ring = Ring::new(64);
        let mut check = Check::new(ring, 2);
        check.frame(&ring.get(5).bytes).unwrap();
        assert!(!check.is_measuring() && !check.end_after(Duration::ZERO).unwrap());
        check.frame(&ring.start().bytes).unwrap();
        check.frame(&ring.start().bytes).unwrap();
        for _ in 1..64 {
            check.frame(&ring.get(5).bytes).unwrap();
        }
        assert!(!check.end_after(Duration::from_secs(60)).unwrap());
        assert!(check.end_after(Duration::ZERO).unwrap());
        assert!(!check.end_after(Duration::ZERO).unwrap());
        for _ in 0..2 {
            assert!(!check.is_over());
            check.frame(&ring.get(3).bytes).unwrap();
            check.frame(&ring.last().bytes).unwrap();
        }
        assert!(check.is_over());
        assert_eq!(check.result().unwrap().0, 64);
    }

    #[test]
    fn a_message_that_is_lost_repeated_cut_or_damaged_is_found() {
        let ring = Ring::new(64);
        let whole = &ring.get(1).bytes;
        let mut damaged = whole.to_vec();
        damaged[63] ^= 1;
        let bad = [
            &ring.get(2).bytes[..],
            &ring.get(0).bytes,
            &whole[..63],
            &whole[..3],
            &damaged,
        ];
        for bad in bad {
            let (_, mut check) = measuring();
            assert!(check.frame(bad).is_err(), "{bad:?}");
        }
        // All of a message is looked at before it counts.
        let mut check = Check::new(ring, 1);
        let mut damaged = ring.get(0).bytes.to_vec();
        damaged[30] ^= 1;
        assert!(check.frame(&damaged).is_err());
    }
}
