//! Several writers on one FIFO at the same time, one of them killed in full flow.

use std::os::unix::process::ExitStatusExt;

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::fifo::OpenOptions;
use tokio::io::AsyncReadExt;
use tokio::process::Child;

use super::peer::BEGUN;
use super::stage::{Stage, count, tally};

/// Writers that finish.
const WRITERS: u32 = 3;
const EACH: u64 = 20_000;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("Four processes write messages of 20 to 1,519 bytes into one FIFO at the")?;
    stage.say("same time. One of them never ends, until it is killed with SIGKILL.")?;
    let path = stage.path("log");
    let address = Endpoint::new("fifo", &path)?.to_string();
    let receive = stage.start("receive", &[&address, &u64::MAX.to_string()])?;
    // The stream ends when the last writer leaves: this one stays until all others have left.
    let keeper = OpenOptions::new().create(true).open_sender(&path).await?;
    let Some(path) = path.to_str() else {
        anyhow::bail!("the temporary directory has a name that is not UTF-8");
    };
    let start = |writer: u32, count: u64| {
        stage.start("share", &[path, &writer.to_string(), &count.to_string()])
    };
    let mut endless = start(WRITERS, u64::MAX)?;
    let writers = (0..WRITERS).map(|writer| start(writer, EACH));
    let writers = writers.collect::<anyhow::Result<Vec<_>>>()?;
    // Its first message is in the FIFO before it is killed.
    begun(&mut endless).await?;
    stage.sent(format_args!(
        "{} messages by each of {WRITERS} writers",
        count(EACH)
    ))?;
    for mut writer in writers {
        anyhow::ensure!(writer.wait().await?.success(), "a writer failed");
    }
    endless.start_kill()?;
    let status = endless.wait().await?;
    anyhow::ensure!(
        status.signal() == Some(9),
        "the fourth writer ended with {status}"
    );
    drop(keeper);

    let tally = tally(receive).await?;
    for writer in 0..WRITERS {
        tally.check_sender(writer, EACH)?;
    }
    let of_killed = tally.senders.get(&WRITERS).copied().unwrap_or_default();
    anyhow::ensure!(of_killed > 0, "nothing arrived from the killed writer");
    stage.received(format_args!(
        "{} messages, {} of them by the one that was killed",
        count(tally.messages),
        count(of_killed)
    ))?;
    stage.verified("none torn, lost or doubled; in order for each writer")?;
    stage.speed(tally.messages, tally.bytes, tally.time)
}

/// Waits until a writer says that it has sent something.
async fn begun(writer: &mut Child) -> anyhow::Result<()> {
    let stdout = writer.stdout.as_mut().context("it is piped")?;
    let mut said = [0; BEGUN.len()];
    stdout.read_exact(&mut said).await?;
    anyhow::ensure!(said == *BEGUN.as_bytes(), "a writer printed something else");
    Ok(())
}
