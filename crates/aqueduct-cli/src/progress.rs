//! A progress line for long work, on a terminal only.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Report;

/// Work that takes less long shows nothing.
const LONG: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(200);

/// Counts what is moved and shows it.
pub(crate) struct Progress {
    wanted: bool,
    bar: Option<ProgressBar>,
    start: Instant,
    next: Instant,
    messages: u64,
    bytes: u64,
}

impl Progress {
    /// `mixed`: the line would be mixed with something else on a terminal, such as the data.
    pub(crate) fn new(report: &Report, mixed: bool) -> Self {
        let start = Instant::now();
        Self {
            wanted: !report.is_quiet() && io::stderr().is_terminal() && !mixed,
            bar: None,
            start,
            next: start + LONG,
            messages: 0,
            bytes: 0,
        }
    }

    /// Counts; the clock is only looked at where a line may be shown.
    pub(crate) fn add(&mut self, messages: u64, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes as u64;
        if self.wanted {
            self.show();
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn show(&mut self) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + STEP;
        let seconds = (now - self.start).as_secs_f64();
        let rate = (self.messages as f64 / seconds) as u64;
        let bytes_rate = (self.bytes as f64 / seconds) as u64;
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::default_spinner());
            bar
        });
        bar.tick();
        bar.set_message(format!(
            "{} messages, {} ({}/s, {}/s)",
            HumanCount(self.messages),
            BinaryBytes(self.bytes),
            HumanCount(rate),
            BinaryBytes(bytes_rate),
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
