//! [`Job`]: what becomes of one message.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aqueduct::bytes::Bytes;
use aqueduct::connect::Message;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Shared;
use crate::cli::Frame;
use crate::serve::facts::Facts;
use crate::serve::on_fail::{OnFail, settle};
use crate::serve::prints::Prints;
use crate::serve::start::Started;

/// How long after the first failure a program is run again; each time after that twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How much of the output is kept until it is known whether the program runs again, if there is no
/// largest message.
const KEPT_TO_RETRY: usize = 16 << 20;

/// A message in hand. Dropped before it is finished, it is an abandoned one.
pub(in crate::serve) struct Job {
    shared: Arc<Shared>,
    facts: Facts,
    message: Option<Message>,
}

/// How the program of a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Ended {
    Well,
    Failed,
    /// The service was stopped before it could be started.
    NotStarted,
}

impl Job {
    pub(super) fn new(shared: Arc<Shared>, facts: Facts, message: Message) -> Self {
        shared.load.add();
        let message = Some(message);
        Self {
            shared,
            facts,
            message,
        }
    }

    /// The reply to a message. `None`: the service stopped before its program could be started.
    pub(in crate::serve) async fn answer(mut self) -> Option<Bytes> {
        let shared = Arc::clone(&self.shared);
        if shared.command.is_empty() {
            return self.echo();
        }
        let (mut output, ended) = self.gather().await;
        if shared.frame.is_some_and(Frame::is_lines) && output.last() == Some(&b'\n') {
            output.pop();
        }
        (ended != Ended::NotStarted).then(|| output.into())
    }

    /// The message is its own reply.
    fn echo(&mut self) -> Option<Bytes> {
        let message = self.message.take()?;
        let body = message.body().clone();
        settle(message);
        Some(body)
    }

    /// All that the program prints when it runs for the last time, as it is.
    pub(in crate::serve) async fn output(self) -> Vec<u8> {
        self.gather().await.0
    }

    async fn gather(self) -> (Vec<u8>, Ended) {
        let largest = self.shared.largest.unwrap_or(usize::MAX);
        let mut prints = Prints::gathered(largest, "see --max-frame");
        let ended = self.work(&mut prints).await;
        (prints.take(), ended)
    }

    /// Passes on what the program prints as it comes; with --retry, when it runs for the last time.
    pub(in crate::serve) async fn pour(mut self, pieces: mpsc::Sender<Bytes>) -> Ended {
        if self.shared.command.is_empty() {
            // Nobody there to read it is no failure.
            let _ = pieces.send(self.echo().unwrap_or_default()).await;
            return Ended::Well;
        }
        if self.shared.retry == 0 {
            return self.work(&mut Prints::Poured(pieces)).await;
        }
        let mut prints = Prints::gathered(KEPT_TO_RETRY, "no more is kept with --retry");
        let ended = self.work(&mut prints).await;
        let output = Bytes::from(prints.take());
        if !output.is_empty() {
            let _ = pieces.send(output).await;
        }
        ended
    }

    /// Runs the program until it succeeds or was run often enough.
    async fn work(mut self, prints: &mut Prints) -> Ended {
        let shared = Arc::clone(&self.shared);
        let program = shared.command.first().cloned().unwrap_or_default();
        let program = program.to_string_lossy();
        for attempt in 1.. {
            prints.begin();
            let error = match self.run(attempt, prints).await {
                Ok(true) => {
                    if let Some(message) = self.message.take() {
                        settle(message);
                    }
                    return Ended::Well;
                }
                Ok(false) => {
                    self.abandon();
                    return Ended::NotStarted;
                }
                Err(error) => error,
            };
            let report = |then: &dyn std::fmt::Display| {
                let report = &shared.report;
                report.frequent_failure(format_args!("{program}: {error:#}{then}"));
            };
            if attempt <= shared.retry {
                let pause = pause(attempt);
                report(&format_args!(", tried again after {pause:?}"));
                tokio::select! {
                    () = sleep(pause) => {}
                    () = shared.stopped.cancelled() => {}
                }
                continue;
            }
            match &shared.on_fail {
                None if self.give_back() => report(&", its message is given back"),
                None => report(&""),
                Some(on_fail) => {
                    let address = on_fail.endpoint();
                    report(&format_args!(", its message goes to {address}"));
                    self.fail(on_fail).await;
                }
            }
            self.message = None;
            return Ended::Failed;
        }
        Ended::Failed
    }

    /// Sends the message to where failed ones go. After a signal it may wait for some seconds; it
    /// is an abandoned one then.
    async fn fail(&mut self, on_fail: &OnFail) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            () = on_fail.send(&mut self.message) => {}
            () = shared.given_up() => self.abandon(),
        }
    }

    /// Runs the program once. `false`: the service stopped before it could be started.
    async fn run(&self, attempt: u32, prints: &mut Prints) -> anyhow::Result<bool> {
        let Some(message) = &self.message else {
            return Ok(true);
        };
        let _place = self.shared.places.acquire().await?;
        let Some(started) = self.start(message, attempt).await? else {
            return Ok(false);
        };
        let Started {
            mut child,
            mut group,
            mut input,
            stdout,
        } = started;
        let body = message.body();
        let write = async move {
            match input.write_all(body).await {
                // It need not read it all.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            }
        };
        let read = prints.read(stdout);
        let wait = async {
            let status = child.wait().await;
            group.has_ended();
            status
        };
        let (written, read, status) = tokio::join!(write, read, wait);
        written.context("cannot give it the message")?;
        read?;
        let status = status?;
        anyhow::ensure!(status.success(), "{status}");
        Ok(true)
    }

    /// Starts the program. A shortage of descriptors, processes or memory is not the message's
    /// fault: it waits until that has passed, or is given up.
    async fn start(&self, message: &Message, attempt: u32) -> anyhow::Result<Option<Started>> {
        let Shared {
            command, report, ..
        } = &*self.shared;
        let start = || Started::try_new(command, &self.facts, message, attempt);
        let tell = |shortage: &str| {
            let program = command.first().cloned().unwrap_or_default();
            report.frequent_failure(format_args!(
                "cannot start {}: no more messages are taken until it can be: {shortage}",
                program.to_string_lossy(),
            ));
        };
        let given_up = self.shared.given_up();
        self.shared.load.start(start, tell, given_up).await
    }

    /// Gives the message back, if it can be delivered again.
    fn give_back(&mut self) -> bool {
        let receipt = self.message.as_mut().and_then(Message::take_receipt);
        receipt.is_some()
    }

    fn abandon(&mut self) {
        if self.give_back() {
            self.message = None;
        }
        // Without a program a message is its own reply: there is nothing to be done with it.
        if let Some(message) = self.message.take()
            && !self.shared.command.is_empty()
        {
            let abandoned = &self.shared.abandoned;
            let mut abandoned = abandoned.lock().unwrap_or_else(PoisonError::into_inner);
            abandoned.push(message);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.abandon();
        self.shared.load.remove();
    }
}

/// How long to wait before a program that has failed so often is run again.
fn pause(failures: u32) -> Duration {
    let times = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(times).min(LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as outcomes;

    use aqueduct::Endpoint;
    use aqueduct::connect::Receipt;
    use clap::Parser;
    use tokio::time::timeout;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::report::{Report, count};
    use crate::serve::Jobs;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Runs a program for a message; whether that is settled.
    async fn settles(arguments: &[&str]) -> bool {
        let arguments = ["aqueduct", "--quiet", "serve", "mq:/served"]
            .iter()
            .chain(arguments);
        let cli = Cli::parse_from(arguments);
        let report = Report::new(&cli.globals);
        let Command::Serve(args) = cli.command else {
            panic!("it is another command");
        };
        let config = args.resolve().unwrap();
        let jobs = Jobs::new(&config, report).await.unwrap();
        let (told, outcome) = outcomes::channel();
        let receipt = Receipt::new(move |settled| told.send(settled).unwrap());
        let message = Message::new("a job").with_receipt(receipt);
        let job = jobs.take(message, &Facts::new(&config.endpoint));
        timeout(DEADLINE, job.output()).await.unwrap();
        jobs.finish().await.unwrap();
        outcome.try_recv().unwrap()
    }

    /// One that waits for a reader was left out of the count.
    #[tokio::test(start_paused = true)]
    async fn each_message_that_on_fail_does_not_get_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let unread = format!("fifo:{}", dir.path().join("unread").display());
        for (waiting, abandoned, lost) in [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 2, 3)] {
            let arguments = [
                "aqueduct",
                "-q",
                "serve",
                "mq:/served",
                "--on-fail",
                &unread,
            ];
            let cli = Cli::parse_from(arguments.iter().chain(&["--", "false"]));
            let report = Report::new(&cli.globals);
            let Command::Serve(args) = cli.command else {
                panic!("it is another command");
            };
            let config = args.resolve().unwrap();
            let jobs = Jobs::new(&config, report).await.unwrap();
            for _ in 0..waiting {
                let mut message = Some(Message::new("a job"));
                let sending = jobs.shared.on_fail.as_ref().unwrap().send(&mut message);
                assert!(timeout(DEADLINE, sending).await.is_err(), "nobody reads it");
                assert!(message.is_none(), "it is in hand");
            }
            for _ in 0..abandoned {
                drop(jobs.take(Message::new("a job"), &Facts::new(&config.endpoint)));
            }
            let finished = jobs.finish().await.map_err(|error| error.to_string());
            let expected = match lost {
                0 => Ok(()),
                n => Err(format!(
                    "{} lost, not taken by {unread}",
                    count(n, "message")
                )),
            };
            assert_eq!(finished, expected, "{waiting} {abandoned}");
        }
    }

    #[tokio::test]
    async fn a_message_is_settled_when_its_program_succeeds() {
        assert!(settles(&["--", "true"]).await);
        assert!(!settles(&["--", "false"]).await, "it is lost");
    }

    #[tokio::test]
    async fn a_message_is_settled_once_on_fail_has_it() {
        let queue = format!("mq:/aqueduct-on-fail-{}?max-message=", std::process::id());
        let large: Endpoint = format!("{queue}64").parse().unwrap();
        let taken = settles(&["--on-fail", &large.to_string(), "--", "false"]).await;
        large.remove().await.unwrap();
        let small: Endpoint = format!("{queue}1").parse().unwrap();
        let refused = settles(&["--on-fail", &small.to_string(), "--", "false"]).await;
        small.remove().await.unwrap();
        assert_eq!((taken, refused), (true, false));
    }

    #[test]
    fn each_retry_pause_doubles_up_to_ten_seconds() {
        let millis = |failures| pause(failures).as_millis();
        assert_eq!([1, 2, 3, 7].map(millis), [100, 200, 400, 6400]);
        assert_eq!([8, 33, u32::MAX].map(millis), [10_000; 3]);
    }
}
