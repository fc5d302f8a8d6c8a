//! [`Jobs`]: what becomes of each message.

use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aqueduct::bytes::Bytes;
use aqueduct::connect::Message;
use aqueduct::service::CancellationToken;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::facts::Facts;
use super::on_fail::OnFail;
use super::prints::Prints;
use super::start::{GivenUp, Started};
use crate::cli::Frame;
use crate::config::ServeConfig;
use crate::report::{Report, count};
use crate::shortage::{shortage, told};

/// How long after the first failure a program is run again; each time after that twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How soon a program is started again where descriptors, processes or memory are short.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// How long after a signal a failed message may wait for its place to go to.
const GRACE: Duration = Duration::from_secs(10);
/// How much of what a program prints is kept until it is known whether it is to run again, where there
/// is no largest message.
const KEPT_TO_RETRY: usize = 16 << 20;
/// How long in the end those that were not finished may.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Runs a program for each message, a few at a time. Clones share their places.
#[derive(Clone)]
pub(super) struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    /// The program and its arguments; empty: echo.
    command: Vec<OsString>,
    frame: Option<Frame>,
    /// The largest reply; `None` where bytes go on as they are printed.
    largest: Option<usize>,
    retry: u32,
    on_fail: Option<OnFail>,
    report: Report,
    places: Semaphore,
    /// Held while a program is started: where that has to wait, the others wait behind it.
    starting: tokio::sync::Mutex<()>,
    /// No program can be started for now.
    short: AtomicBool,
    /// Messages in hand.
    busy: AtomicUsize,
    changed: Notify,
    /// Told to stop: nothing waits any more.
    stopped: CancellationToken,
    /// Messages of which neither their program nor anything else took care.
    abandoned: Mutex<Vec<Message>>,
}

/// A message in hand. Dropped before it is finished, it is an abandoned one.
pub(super) struct Job {
    shared: Arc<Shared>,
    facts: Facts,
    message: Option<Message>,
}

/// How the program of a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    Failed,
    /// The service was stopped before it could be started.
    NotStarted,
}

impl Jobs {
    pub(super) async fn new(config: &ServeConfig, report: Report) -> anyhow::Result<Self> {
        let on_fail = match &config.on_fail {
            Some(on_fail) => Some(OnFail::open(on_fail, report.clone()).await?),
            None => None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                command: config.command.clone(),
                frame: config.link.frame,
                largest: (!config.link.is_raw()).then(|| config.link.largest()),
                retry: config.retry,
                on_fail,
                report,
                places: Semaphore::new(config.jobs),
                starting: tokio::sync::Mutex::default(),
                short: AtomicBool::new(false),
                busy: AtomicUsize::new(0),
                changed: Notify::new(),
                stopped: CancellationToken::new(),
                abandoned: Mutex::default(),
            }),
        })
    }

    /// Whether there is a program to run.
    pub(super) fn runs(&self) -> bool {
        !self.shared.command.is_empty()
    }

    /// Whether what is printed goes on as it comes.
    pub(super) fn pours(&self) -> bool {
        self.shared.largest.is_none()
    }

    /// Takes a message in hand.
    pub(super) fn take(&self, message: Message, facts: &Facts) -> Job {
        self.shared.busy.fetch_add(1, Ordering::Relaxed);
        self.shared.changed.notify_waiters();
        Job {
            shared: Arc::clone(&self.shared),
            facts: facts.clone(),
            message: Some(message),
        }
    }

    /// Whether no program can be started for now, and so no message is to be taken.
    pub(super) fn is_short(&self) -> bool {
        self.shared.short.load(Ordering::Relaxed)
    }

    /// How many messages are in hand.
    pub(super) fn in_hand(&self) -> usize {
        self.shared.busy.load(Ordering::Relaxed)
    }

    /// Waits until that has changed since the call.
    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        self.shared.changed.notified()
    }

    /// Waits until no message was in hand for so long.
    pub(super) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let changed = self.changed();
            if self.in_hand() > 0 {
                changed.await;
                continue;
            }
            tokio::select! {
                () = sleep(limit) => return,
                () = changed => {}
            }
        }
    }

    /// Lets no message wait any longer than it must.
    pub(super) fn stop(&self) {
        self.shared.stopped.cancel();
    }

    /// What was in hand and is not finished goes where failed messages go. Fails if messages are
    /// lost.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        // An aborted task drops what it has in hand at its next turn.
        let dropped = async {
            loop {
                let changed = self.changed();
                if self.in_hand() == 0 {
                    break;
                }
                changed.await;
            }
        };
        let _ = timeout(LAST_GRACE, dropped).await;
        let abandoned = &self.shared.abandoned;
        let mut abandoned =
            std::mem::take(&mut *abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        let n = abandoned.len() as u64;
        let Some(on_fail) = &self.shared.on_fail else {
            let hint = "with --on-fail ADDRESS they would have been kept";
            anyhow::ensure!(n == 0, "{} in hand not done: {hint}", count(n, "message"));
            return Ok(());
        };
        let delivering = async {
            while let Some(message) = abandoned.pop() {
                on_fail.send(&mut Some(message)).await;
            }
            on_fail.close().await;
        };
        let late = match timeout(LAST_GRACE, delivering).await {
            Ok(()) => 0,
            // And the one on its way.
            Err(_) => abandoned.len() as u64 + 1,
        };
        let lost = on_fail.lost() + late;
        let address = on_fail.endpoint();
        if n > 0 && lost == 0 {
            let (what, report) = (count(n, "message"), &self.shared.report);
            report.note(format_args!("{what} in hand not done, kept in {address}"));
        }
        let what = count(lost, "message");
        anyhow::ensure!(lost == 0, "{what} lost: {address} did not take them");
        Ok(())
    }
}

impl Job {
    /// The reply to a message. `None`: the service stopped before its program could be started.
    pub(super) async fn answer(mut self) -> Option<Bytes> {
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
    pub(super) async fn output(self) -> Vec<u8> {
        self.gather().await.0
    }

    async fn gather(self) -> (Vec<u8>, Ended) {
        let largest = self.shared.largest.unwrap_or(usize::MAX);
        let mut prints = Prints::gathered(largest, "see --max-frame");
        let ended = self.work(&mut prints).await;
        (prints.take(), ended)
    }

    /// Passes on what the program prints as it comes; with --retry, when it runs for the last time.
    pub(super) async fn pour(mut self, pieces: mpsc::Sender<Bytes>) -> Ended {
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
            let Err(error) = self.run(attempt, prints).await else {
                if let Some(message) = self.message.take() {
                    settle(message);
                }
                return Ended::Well;
            };
            if error.is::<GivenUp>() {
                self.abandon();
                return Ended::NotStarted;
            }
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
        let stopped = self.shared.stopped.clone();
        let patience = async {
            stopped.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            () = on_fail.send(&mut self.message) => {}
            () = patience => self.abandon(),
        }
    }

    async fn run(&self, attempt: u32, prints: &mut Prints) -> anyhow::Result<()> {
        let Some(message) = &self.message else {
            return Ok(());
        };
        let _place = self.shared.places.acquire().await?;
        let Started {
            mut child,
            mut group,
            mut input,
            stdout,
        } = self.start(message, attempt).await?;
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
        Ok(())
    }

    /// Starts the program. A shortage of descriptors, processes or memory is not the message's
    /// fault: it waits until that has passed.
    async fn start(&self, message: &Message, attempt: u32) -> anyhow::Result<Started> {
        let shared = &self.shared;
        let _turn = shared.starting.lock().await;
        let mut short: Option<Short<'_>> = None;
        let given_up = async {
            shared.stopped.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::pin!(given_up);
        loop {
            let error = match Started::try_new(&shared.command, &self.facts, message, attempt) {
                Err(error) => error,
                started => return started,
            };
            let Some(cure) = shortage(&error) else {
                return Err(error);
            };
            short.get_or_insert_with(|| Short::begin(shared, &error, cure));
            tokio::select! {
                () = sleep(SHORT_PAUSE) => {}
                () = &mut given_up => return Err(GivenUp.into()),
            }
        }
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
        self.shared.busy.fetch_sub(1, Ordering::Relaxed);
        self.shared.changed.notify_waiters();
    }
}

/// For as long as it exists, no message is taken.
struct Short<'a>(&'a Shared);

impl<'a> Short<'a> {
    fn begin(shared: &'a Shared, error: &anyhow::Error, cure: &str) -> Self {
        let program = shared.command.first().cloned().unwrap_or_default();
        shared.report.frequent_failure(format_args!(
            "cannot start {}: no more messages are taken until it can be: {}",
            program.to_string_lossy(),
            told(error, cure)
        ));
        Self(shared).set(true)
    }

    fn set(self, short: bool) -> Self {
        self.0.short.store(short, Ordering::Relaxed);
        self.0.changed.notify_waiters();
        self
    }
}

impl Drop for Short<'_> {
    fn drop(&mut self) {
        self.0.short.store(false, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

/// The message is dealt with: it is not delivered again.
pub(super) fn settle(mut message: Message) {
    if let Some(receipt) = message.take_receipt() {
        receipt.settle();
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

    use super::*;
    use crate::cli::{Cli, Command};

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
        timeout(GRACE, job.output()).await.unwrap();
        jobs.finish().await.unwrap();
        outcome.try_recv().unwrap()
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
