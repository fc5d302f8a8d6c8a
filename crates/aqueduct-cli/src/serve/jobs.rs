//! [`Jobs`]: what becomes of each message.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct::bytes::Bytes;
use aqueduct::child::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

use crate::cli::Frame;
use crate::config::ServeConfig;
use crate::report::Report;

/// Runs a program for each message, a few at a time. Clones share their places.
#[derive(Clone)]
pub(super) struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    /// The program and its arguments; empty: echo.
    command: Vec<OsString>,
    frame: Option<Frame>,
    largest: usize,
    report: Report,
    places: Semaphore,
    /// Messages in hand.
    busy: AtomicUsize,
    changed: Notify,
}

impl Jobs {
    pub(super) fn new(config: &ServeConfig, report: Report) -> Self {
        Self {
            shared: Arc::new(Shared {
                command: config.command.clone(),
                frame: config.link.frame,
                largest: config.link.framing.get_max_frame(),
                report,
                places: Semaphore::new(config.jobs),
                busy: AtomicUsize::new(0),
                changed: Notify::new(),
            }),
        }
    }

    /// Whether there is a program to run.
    pub(super) fn runs(&self) -> bool {
        !self.shared.command.is_empty()
    }

    /// The reply to a message. A program that fails is told of, and what it printed is the reply
    /// all the same. `None`: it failed, printed nothing, and there is no framing by which that
    /// could be told.
    pub(super) async fn answer(&self, message: Bytes) -> Option<Bytes> {
        let _in_hand = InHand::new(&self.shared);
        if !self.runs() {
            return Some(message);
        }
        let (mut output, failed) = self.output(message).await;
        if self.shared.frame == Some(Frame::Lines) && output.last() == Some(&b'\n') {
            output.pop();
        }
        let silent = failed && output.is_empty() && self.shared.frame == Some(Frame::Raw);
        (!silent).then(|| output.into())
    }

    /// All that the program prints, as it is, and whether it failed.
    pub(super) async fn output(&self, message: Bytes) -> (Vec<u8>, bool) {
        let _in_hand = InHand::new(&self.shared);
        let mut output = Vec::new();
        let result = self.run(message, &mut output).await;
        if let Err(error) = &result {
            let program = self.shared.command.first().cloned().unwrap_or_default();
            let program = program.to_string_lossy().into_owned();
            self.shared
                .report
                .failure(format_args!("{program}: {error:#}"));
        }
        (output, result.is_err())
    }

    async fn run(&self, message: Bytes, output: &mut Vec<u8>) -> anyhow::Result<()> {
        let Some((program, args)) = self.shared.command.split_first() else {
            return Ok(());
        };
        let _place = self.shared.places.acquire().await?;
        let mut command = Command::new(program);
        command.args(args).pipe_to_child(0).pipe_from_child(1);
        command.kill_on_drop(true);
        // Ctrl-C at the terminal is for this process, which lets those at work finish.
        command.as_tokio_mut().process_group(0);
        let mut child = command.spawn()?;
        let mut input = child.take_sender(0)?;
        let stdout = child.take_receiver(1)?;
        let largest = self.shared.largest;
        let write = async move {
            match input.write_all(&message).await {
                // It need not read it all.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            }
        };
        let read = async {
            // It is closed behind that: what prints without an end is ended.
            let mut stdout = stdout.take(largest as u64 + 1);
            stdout.read_to_end(output).await
        };
        let (written, read, status) = tokio::join!(write, read, child.wait());
        written?;
        if read? > largest {
            output.truncate(largest);
            anyhow::bail!("it printed more than {largest} bytes, and is cut off: see --max-frame");
        }
        let status = status?;
        anyhow::ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Waits until no message was in hand for so long.
    pub(super) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.busy.load(Ordering::Relaxed) > 0 {
                changed.await;
                continue;
            }
            tokio::select! {
                () = sleep(limit) => return,
                () = changed => {}
            }
        }
    }
}

/// Counts a message as in hand for as long as it lives.
struct InHand<'a>(&'a Shared);

impl<'a> InHand<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.busy.fetch_add(1, Ordering::Relaxed);
        shared.changed.notify_waiters();
        Self(shared)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}
