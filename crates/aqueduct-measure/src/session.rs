//! The work, the same for every case: one way or round trip.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::check::Check;
use crate::exec::Exec;
use crate::message::{Message, Ring};
use crate::peer::{Side, Spec, together};
use crate::sample::{Latency, SideReport};
use crate::usage::Usage;

/// Counts the allocations of this thread while a closure runs; `None`: not counted.
pub type CountAllocations = fn(&mut dyn FnMut()) -> Option<u64>;

/// A sending end under test.
pub trait Sends: Send + 'static {
    /// Sends one message, as the case does: at once, or into a buffer.
    fn send(
        &mut self,
        message: &'static Message,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Sees to it that all was sent.
    fn flush(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// A receiving end under test.
pub trait Receives: Send + 'static {
    /// Waits for messages and hands at least one to `check`.
    fn receive(&mut self, check: &mut Check) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One side's part in a sample.
#[derive(Debug)]
pub struct Session {
    spec: Spec,
    exec: Exec,
    ring: &'static Ring,
    count_allocations: CountAllocations,
}

impl Session {
    pub(crate) fn new(spec: Spec, exec: Exec, count_allocations: CountAllocations) -> Self {
        let ring = Ring::new(spec.size);
        Self {
            spec,
            exec,
            ring,
            count_allocations,
        }
    }

    /// What is to be done.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What runs it.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// The messages.
    pub fn ring(&self) -> &'static Ring {
        self.ring
    }

    /// Whether this side sends in a one-way sample, or starts the round trips.
    pub fn is_first(&self) -> bool {
        self.spec.side == Side::First
    }

    /// The sending side of one-way work.
    ///
    /// # Errors
    ///
    /// What the case reports.
    pub fn sender<S: Sends>(&self, mut tx: S) -> anyhow::Result<SideReport> {
        let (ring, spec) = (self.ring, &self.spec);
        let (warm, run) = (spec.warm_up(), spec.run_time());
        let pace = Duration::from_micros(spec.pace_us);
        let stop = self.stop();
        let several = stop.is_some();
        let receivers = spec.receivers;
        if several {
            together()?;
        }
        let (tx, place) = self.exec.run(async move {
            let mut place = Place::new(ring);
            if several {
                let deadline = Instant::now() + warm;
                send_while(&mut tx, &mut place, || Instant::now() < deadline).await?;
            } else {
                send_for(&mut tx, &mut place, warm, pace).await?;
            }
            if receivers == 1 {
                tx.send(ring.start()).await?;
            }
            Ok((tx, place))
        })?;
        let before = Usage::now()?;
        let measured = async move {
            let (mut tx, mut place) = (tx, place);
            let begun = Instant::now();
            let sent = match stop {
                Some(stop) => send_while(&mut tx, &mut place, until(stop)).await?,
                None => send_for(&mut tx, &mut place, run, pace).await?,
            };
            let seconds = begun.elapsed().as_secs_f64();
            // One ends each receiver.
            for _ in 0..receivers {
                tx.send(ring.last()).await?;
            }
            tx.flush().await?;
            Ok((tx, sent + 1, seconds))
        };
        let ((tx, messages, seconds), allocations) = self.counted(measured)?;
        let usage = Usage::now()? - before;
        self.close(tx)?;
        Ok(SideReport {
            messages,
            // No receiver of several knows when all began.
            seconds: if receivers > 1 { seconds } else { 0.0 },
            usage,
            allocations,
            ..SideReport::default()
        })
    }

    /// The receiving side of one-way work, from as many senders as there are.
    ///
    /// # Errors
    ///
    /// What the case reports; a message that should not have come.
    pub fn receiver<R: Receives>(&self, mut rx: R) -> anyhow::Result<SideReport> {
        let mut check =
            Check::new(self.ring, self.spec.senders).with_receivers(self.spec.receivers)?;
        let (rx, check) = self.exec.run(async move {
            while !check.is_measuring() {
                rx.receive(&mut check).await?;
            }
            Ok((rx, check))
        })?;
        let (stop, run) = (self.stop(), self.spec.run_time());
        let measured = async move {
            let (mut rx, mut check) = (rx, check);
            while !check.is_over() {
                rx.receive(&mut check).await?;
                if let Some(stop) = &stop
                    && check.end_after(run)?
                {
                    std::fs::write(stop, [])?;
                }
            }
            Ok((rx, check))
        };
        let ((rx, check), allocations) = self.counted(measured)?;
        self.close(rx)?;
        let result = check.result().context("no message was measured")?;
        let (messages, seconds, usage) = result;
        Ok(SideReport {
            messages,
            seconds,
            usage,
            allocations,
            ..SideReport::default()
        })
    }

    /// The side that starts the round trips.
    ///
    /// # Errors
    ///
    /// What the case reports; a reply that should not have come.
    pub fn client<D: Sends + Receives>(&self, mut both: D) -> anyhow::Result<SideReport> {
        let (ring, spec) = (self.ring, &self.spec);
        let (warm, run) = (spec.warm_up(), spec.run_time());
        let mut times = Vec::with_capacity(TIMES);
        let mut check = Check::new(ring, 1);
        let (both, check, place) = self.exec.run(async move {
            let mut place = Place::new(ring);
            let deadline = Instant::now() + warm;
            while Instant::now() < deadline {
                call(&mut both, place.message(), &mut check).await?;
            }
            call(&mut both, ring.start(), &mut check).await?;
            anyhow::ensure!(check.is_measuring());
            Ok((both, check, place))
        })?;
        let before = Usage::now()?;
        let measured = async move {
            let (mut both, mut check, mut place) = (both, check, place);
            let begun = Instant::now();
            let mut now = begun;
            while now - begun < run && times.len() < TIMES {
                call(&mut both, place.message(), &mut check).await?;
                let then = Instant::now();
                times.push((then - now).as_nanos().min(u32::MAX.into()) as u32);
                now = then;
            }
            let seconds = begun.elapsed().as_secs_f64();
            call(&mut both, ring.last(), &mut check).await?;
            Ok((both, times, seconds))
        };
        let ((both, mut times, seconds), allocations) = self.counted(measured)?;
        let usage = Usage::now()? - before;
        self.close(both)?;
        Ok(SideReport {
            messages: times.len() as u64,
            seconds,
            usage,
            allocations,
            latency: Latency::of(&mut times),
        })
    }

    /// The side that answers each message with its equal.
    ///
    /// # Errors
    ///
    /// What the case reports; a message that should not have come.
    pub fn server<D: Sends + Receives>(&self, mut both: D) -> anyhow::Result<SideReport> {
        let ring = self.ring;
        let mut check = Check::new(ring, 1);
        let (both, check) = self.exec.run(async move {
            while !check.is_measuring() {
                answer(&mut both, ring, &mut check).await?;
            }
            Ok((both, check))
        })?;
        let measured = async move {
            let (mut both, mut check) = (both, check);
            while !check.is_over() {
                answer(&mut both, ring, &mut check).await?;
            }
            Ok((both, check))
        };
        let ((both, check), allocations) = self.counted(measured)?;
        self.close(both)?;
        let (messages, seconds, usage) = check.result().context("no message was measured")?;
        Ok(SideReport {
            messages,
            seconds,
            usage,
            allocations,
            ..SideReport::default()
        })
    }

    /// The file that appears when several senders are to stop. Were each to send for some time of
    /// its own, the last would begin when others had ended, on few processors.
    fn stop(&self) -> Option<PathBuf> {
        (self.spec.senders > 1).then(|| self.spec.path("stop"))
    }

    /// Runs it, counting allocations where that is asked for.
    fn counted<T: Send + 'static>(
        &self,
        future: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<(T, Option<u64>)> {
        if !self.spec.count_allocations {
            return Ok((self.exec.run(future)?, None));
        }
        let mut future = Some(future);
        let mut output = None;
        let allocations = (self.count_allocations)(&mut || {
            output = future.take().map(|it| self.exec.run(it));
        });
        let output = output.context("the counter ran nothing")??;
        // What other threads allocate is not seen.
        let seen = !matches!(self.exec, Exec::Multi(_));
        Ok((output, allocations.filter(|_| seen)))
    }

    /// Drops an end where it may need its runtime.
    fn close<T: Send + 'static>(&self, end: T) -> anyhow::Result<()> {
        self.exec.run(async move {
            drop(end);
            Ok(())
        })
    }
}

/// How many round trips are timed at most.
const TIMES: usize = 1 << 20;

/// Where a sender is in its ring.
struct Place {
    ring: &'static Ring,
    next: usize,
}

impl Place {
    fn new(ring: &'static Ring) -> Self {
        Self { ring, next: 0 }
    }

    #[inline]
    fn message(&mut self) -> &'static Message {
        let message = self.ring.get(self.next);
        self.next += 1;
        if self.next == self.ring.len() {
            self.next = 0;
        }
        message
    }
}

/// Sends for so long; looks at the clock every 64 messages, or every 256 KiB.
async fn send_for<S: Sends>(
    tx: &mut S,
    place: &mut Place,
    time: Duration,
    pace: Duration,
) -> anyhow::Result<u64> {
    if !pace.is_zero() {
        return send_paced(tx, place, time, pace).await;
    }
    let size = place.ring.get(0).bytes.len();
    let stride = ((256 << 10) / size).clamp(1, 64);
    let deadline = Instant::now() + time;
    let mut sent = 0;
    loop {
        for _ in 0..stride {
            tx.send(place.message()).await?;
        }
        sent += stride as u64;
        if Instant::now() >= deadline {
            return Ok(sent);
        }
    }
}

/// Sends one of several senders' messages for as long as that holds.
async fn send_while<S: Sends>(
    tx: &mut S,
    place: &mut Place,
    mut holds: impl FnMut() -> bool + Send,
) -> anyhow::Result<u64> {
    let mut sent = 0;
    while holds() {
        tx.send(place.message()).await?;
        sent += 1;
    }
    Ok(sent)
}

/// Whether there is no such file; it is looked for a thousand times a second at most.
fn until(stop: PathBuf) -> impl FnMut() -> bool + Send {
    let mut looked = Instant::now();
    move || {
        if looked.elapsed() < Duration::from_millis(1) {
            return true;
        }
        looked = Instant::now();
        !stop.exists()
    }
}

/// Sends one message after another, each at its time and at once.
async fn send_paced<S: Sends>(
    tx: &mut S,
    place: &mut Place,
    time: Duration,
    pace: Duration,
) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut sent = 0;
    let mut due = Duration::ZERO;
    while due < time {
        tx.send(place.message()).await?;
        tx.flush().await?;
        sent += 1;
        due += pace;
        // Nothing else runs in a process that sends.
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(sent)
}

async fn call<D: Sends + Receives>(
    both: &mut D,
    message: &'static Message,
    check: &mut Check,
) -> anyhow::Result<()> {
    both.send(message).await?;
    both.flush().await?;
    both.receive(check).await
}

async fn answer<D: Sends + Receives>(
    both: &mut D,
    ring: &'static Ring,
    check: &mut Check,
) -> anyhow::Result<()> {
    let (index, before) = (check.next_index(), check.is_measuring());
    both.receive(check).await?;
    // The two that mark the phases are answered with themselves.
    let message = if check.is_over() {
        ring.last()
    } else if check.is_measuring() != before {
        ring.start()
    } else {
        ring.get(index)
    };
    both.send(message).await?;
    both.flush().await
}
