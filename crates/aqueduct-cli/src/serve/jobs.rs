//! [`Jobs`]: the messages in hand.

mod job;

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aqueduct::connect::Message;
use aqueduct::service::CancellationToken;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub(super) use self::job::{Ended, Job};
use super::facts::Facts;
use super::load::Load;
use super::on_fail::OnFail;
use crate::cli::Frame;
use crate::config::ServeConfig;
use crate::report::{Report, count};

/// How long after a signal a message may wait for its program to start, or for the place where failed
/// ones go.
const GRACE: Duration = Duration::from_secs(10);
/// How long the messages in hand may wait, in the end, for the place where failed ones go.
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
    load: Load,
    /// Told to stop: nothing waits any more.
    stopped: CancellationToken,
    /// Messages of which neither their program nor anything else took care.
    abandoned: Mutex<Vec<Message>>,
}

impl Shared {
    /// Waits until a message in hand waits no longer: some time after a signal.
    async fn given_up(&self) {
        self.stopped.cancelled().await;
        sleep(GRACE).await;
    }
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
                load: Load::default(),
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
        Job::new(Arc::clone(&self.shared), facts.clone(), message)
    }

    pub(super) fn load(&self) -> &Load {
        &self.shared.load
    }

    /// Lets no message wait any longer than it must.
    pub(super) fn stop(&self) {
        self.shared.stopped.cancel();
    }

    /// What was in hand and is not finished goes where failed messages go. Fails if messages are
    /// lost.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        // An aborted task drops what it has in hand at its next turn.
        let _ = timeout(LAST_GRACE, self.shared.load.empty()).await;
        let abandoned = &self.shared.abandoned;
        let mut abandoned =
            std::mem::take(&mut *abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        let n = abandoned.len() as u64;
        let Some(on_fail) = &self.shared.on_fail else {
            let hint = "with --on-fail ADDRESS they would have been kept";
            anyhow::ensure!(n == 0, "{} in hand not done: {hint}", count(n, "message"));
            return Ok(());
        };
        let mut next = None;
        let delivering = async {
            while let Some(message) = abandoned.pop() {
                next = Some(message);
                on_fail.send(&mut next).await;
            }
            on_fail.close().await;
        };
        let late = match timeout(LAST_GRACE, delivering).await {
            Ok(()) => 0,
            Err(_) => {
                let waiting = abandoned.len() + usize::from(next.is_some());
                waiting as u64 + on_fail.in_hand().await
            }
        };
        let lost = on_fail.lost() + late;
        let address = on_fail.endpoint();
        if n > 0 && lost == 0 {
            let (what, report) = (count(n, "message"), &self.shared.report);
            report.note(format_args!("{what} in hand not done, kept in {address}"));
        }
        let what = count(lost, "message");
        anyhow::ensure!(lost == 0, "{what} lost, not taken by {address}");
        Ok(())
    }
}
