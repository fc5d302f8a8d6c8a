//! `aqueduct tour`: every mechanism at work between real processes.

mod fifo;
mod numbered;
pub(crate) mod peer;
mod pipes;
mod queue;
mod requests;
mod shared;
mod sockets;
mod stage;
mod tally;

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;

use self::stage::Stage;
use crate::exit::Exit;
use crate::signals::Signals;

/// How long one step may take; it only ends a hang.
const DEADLINE: Duration = Duration::from_secs(120);

type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One mechanism: a title, and what shows and verifies it.
struct Step {
    title: &'static str,
    run: for<'a> fn(&'a mut Stage) -> Running<'a>,
}

const STEPS: &[Step] = &[
    Step {
        title: "Pipes between a parent and its child",
        run: |stage| Box::pin(pipes::run(stage)),
    },
    Step {
        title: "A FIFO between two unrelated processes",
        run: |stage| Box::pin(fifo::run(stage)),
    },
    Step {
        title: "Several writers on one FIFO, one of them killed",
        run: |stage| Box::pin(shared::run(stage)),
    },
    Step {
        title: "A message queue, most urgent first",
        run: |stage| Box::pin(queue::run(stage)),
    },
    Step {
        title: "Unix sockets, of bytes and of packets",
        run: |stage| Box::pin(sockets::unix(stage)),
    },
    Step {
        title: "Shared memory",
        run: |stage| Box::pin(sockets::shm(stage)),
    },
    Step {
        title: "TCP",
        run: |stage| Box::pin(sockets::tcp(stage)),
    },
];

pub(crate) async fn run() -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        () = signals.recv() => anyhow::bail!("the tour was stopped before its end"),
        result = all() => result,
    }
}

async fn all() -> anyhow::Result<Exit> {
    // All that the steps make is in this directory, which is removed however they end.
    let dir = tempfile::Builder::new().prefix("aqueduct-tour-").tempdir();
    let dir = dir.context("cannot make a temporary directory")?;
    let mut stage = Stage::new(dir.path())?;
    stage.text("Aqueduct at work between real processes. Everything shown is verified.")?;
    let mut failed = 0;
    for (i, step) in STEPS.iter().enumerate() {
        stage.title(i + 1, step.title)?;
        let run = tokio::time::timeout(DEADLINE, (step.run)(&mut stage));
        let result = run
            .await
            .unwrap_or_else(|_| anyhow::bail!("it took too long"));
        match result {
            Ok(()) => {}
            Err(error) => {
                failed += 1;
                stage.failed(&error)?;
            }
        }
    }
    dir.close()
        .context("cannot remove the temporary directory")?;
    stage.text("")?;
    let steps = STEPS.len();
    if failed > 0 {
        anyhow::bail!("{failed} of {steps} steps of the tour failed");
    }
    stage.text(&format!(
        "All {steps} steps verified; nothing is left behind."
    ))?;
    Ok(Exit::Done)
}
