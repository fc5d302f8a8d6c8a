//! `aqueduct send --replay`: send a recording again.

use std::path::Path;
use std::time::SystemTime;

use aqueduct::record::{Error, Record, RecordDecoder, Recording};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::{Rest, Send, Stopped};
use crate::cli::Pace;
use crate::config::{ReplayConfig, SendConfig};
use crate::relay::LARGEST_MESSAGE;
use crate::report::Report;

/// A recording that is there, to be sent.
pub(super) struct Replay<'a> {
    config: &'a ReplayConfig,
    recording: Recording,
    /// When the first message was sent, and when it was recorded.
    begin: Option<(Instant, SystemTime)>,
}

impl<'a> Replay<'a> {
    pub(super) fn open(config: &'a ReplayConfig, send: &SendConfig) -> anyhow::Result<Self> {
        let largest = match send.link.is_raw() {
            true => LARGEST_MESSAGE,
            false => send.link.largest(),
        };
        let decoder = RecordDecoder::new().max_message(largest);
        let recording = Recording::open_with(&config.file, decoder);
        Ok(Self {
            config,
            recording: recording.map_err(|e| failed(e, &config.file))?,
            begin: None,
        })
    }

    /// When a message is to be sent; `None`: at once.
    fn due(&mut self, record: &Record) -> Option<Instant> {
        if self.config.pace == Pace::Fast {
            return None;
        }
        let now = Instant::now();
        let (start, first) = *self.begin.get_or_insert((now, record.time));
        // A clock that was set back makes no pause.
        let since = record.time.duration_since(first).unwrap_or_default();
        start.checked_add(since).filter(|due| *due > now)
    }
}

impl Send<'_> {
    /// Sends a recording; whenever the next message is not there or not due, what was taken goes
    /// out.
    pub(super) async fn replay(
        &mut self,
        mut replay: Replay<'_>,
        report: &Report,
    ) -> anyhow::Result<Rest> {
        loop {
            let item = match replay.recording.next().now_or_never() {
                Some(item) => item,
                None => {
                    if self.flush().await? == Stopped::Yes {
                        return Ok(self.stopped(report));
                    }
                    tokio::select! {
                        biased;
                        () = self.signals.recv() => return Ok(self.stopped(report)),
                        item = replay.recording.next() => item,
                    }
                }
            };
            let record = match item {
                None => return Ok(None),
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    // Those before it are good.
                    self.flush().await?;
                    return Err(failed(error, &replay.config.file));
                }
            };
            if let Some(due) = replay.due(&record) {
                if self.flush().await? == Stopped::Yes {
                    return Ok(self.stopped(report));
                }
                tokio::select! {
                    biased;
                    () = self.signals.recv() => return Ok(self.stopped(report)),
                    () = sleep_until(due) => {}
                }
            }
            let mut message = record.message;
            if let Some(priority) = self.config.priority {
                message = message.with_priority(priority);
            }
            if self.feed(message).await? == Stopped::Yes {
                return Ok(self.stopped(report));
            }
        }
    }

    /// Nothing is in hand but what the sink has: the rest is in the file.
    fn stopped(&self, report: &Report) -> Rest {
        let n = self.progress.messages();
        report.note(format_args!(
            "stopped, {n} messages of the recording were sent"
        ));
        Some(Vec::new())
    }
}

fn failed(error: Error, file: &Path) -> anyhow::Error {
    let context = match error {
        Error::TooLarge { max, .. } if max != LARGEST_MESSAGE => {
            format!("{}: see --max-frame", file.display())
        }
        _ => file.display().to_string(),
    };
    anyhow::Error::new(error).context(context)
}
