//! `aqueduct relay`: move messages from one address to another.

use std::future::pending;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::Context;
use aqueduct::endpoint::Direction;
use aqueduct::record::Recorder;
use aqueduct::relay::{Error, Relay, Spool};
use aqueduct::service::CancellationToken;

use crate::config::{self, EndConfig, Lasting, RelayConfig, Side};
use crate::exit::{Exit, Failure};
use crate::link;
use crate::progress::Progress;
use crate::recv;
use crate::report::{Report, about};
use crate::signals::Signals;
use crate::stdout;

/// That of a queue, which may be far above the largest frame.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

pub(crate) async fn run(config: RelayConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let RelayConfig {
        lasting,
        from,
        to,
        tee,
        spool,
    } = &config;
    let mut recorder = match tee {
        Some(file) => {
            let opened = Recorder::open_with(file, LARGEST_MESSAGE);
            Some(opened.with_context(|| file.display().to_string())?)
        }
        None => None,
    };
    let spool = match spool {
        Some(file) => Some(Spool::open(file).with_context(|| file.display().to_string())?),
        None => None,
    };
    if could_answer(&config) {
        report.note(format_args!(
            "relay is one-way: replies from {} do not reach {}; use proxy for both directions",
            to.endpoint, from.endpoint
        ));
    }
    // In this order nothing is taken before there is somebody to give it to.
    let opening = link::sender(&to.endpoint, &to.link, to.side, Lasting::Yes, report);
    let opened = link::opened(
        opening,
        &to.endpoint,
        &to.link,
        to.side,
        &mut signals,
        report,
    );
    let Some(mut outgoing) = opened.await? else {
        return Ok(Exit::Done);
    };
    let opening = link::receiver(&from.endpoint, &from.link, from.side, *lasting, report);
    let opened = link::opened(
        opening,
        &from.endpoint,
        &from.link,
        // A bound socket does not wait, but the receiver of a stream waits for its server.
        Side::Connect,
        &mut signals,
        report,
    );
    let Some(mut incoming) = opened.await? else {
        return Ok(Exit::Done);
    };
    let work = format_args!("relaying {} to {}", from.endpoint, to.endpoint).to_string();
    signals.ready(work).await;
    let (source, target) = (incoming.take_child(), outgoing.take_child());
    let mut progress = Progress::new(report, mixed(&config));
    let mut recording = false;
    let mut relay = Relay::new(incoming, outgoing)
        .idle(from.link.timeout)
        .tap(|message| {
            progress.add(1, message.body().len());
            let recorded = recorder.as_mut().map_or(Ok(()), |it| it.record(message));
            recording |= recorded.is_err();
            recorded
        });
    if let Some(spool) = spool {
        relay = relay.spool(spool);
    }
    let stop = CancellationToken::new();
    let output = match to.endpoint.capabilities().stdio {
        true => Some(stdout::open()?),
        false => None,
    };
    let unwanted = async {
        match &output {
            Some(output) => output.closed().await,
            None => pending().await,
        }
    };
    tokio::pin!(unwanted);
    let result = {
        let running = relay.run(stop.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                biased;
                result = &mut running => break result,
                () = &mut unwanted, if !stop.is_cancelled() => stop.cancel(),
                () = signals.recv() => {
                    if stop.is_cancelled() {
                        break Err(Error::GivenUp);
                    }
                    stop.cancel();
                }
            }
        }
    };
    drop(progress);
    if let (Some(recorder), Some(file)) = (&mut recorder, tee) {
        let synced = recorder.sync();
        synced.with_context(|| format!("cannot record to {}", file.display()))?;
    }
    if let Err(error) = result {
        return match failed(error, &config, recording) {
            Some(error) => Err(error),
            None => Ok(Exit::Done),
        };
    }
    // One that is cut off fails, and is not to blame.
    let source = source.filter(|_| !stop.is_cancelled());
    link::ended_well(&from.endpoint, source, from.link.timeout, &mut signals).await?;
    link::ended_well(&to.endpoint, target, to.link.timeout, &mut signals).await?;
    Ok(Exit::Done)
}

/// Whether clients of one address could be waiting for answers from the other, which `proxy` passes.
fn could_answer(config: &RelayConfig) -> bool {
    let to = config.to.endpoint.capabilities();
    config::has_connections(&config.from.endpoint)
        && to.direction == Direction::TwoWay
        && config::has_end(&config.to.endpoint)
        && !to.stdio
}

/// Whether messages come from or go to a terminal, where a progress line would be among them.
fn mixed(config: &RelayConfig) -> bool {
    let is_stdio = |it: &EndConfig| it.endpoint.capabilities().stdio;
    is_stdio(&config.from) && io::stdin().is_terminal()
        || is_stdio(&config.to) && io::stdout().is_terminal()
}

/// The failure; `None` if nothing reads its output any more. `recording`: the recording failed,
/// rather than the spool.
fn failed(error: Error, config: &RelayConfig, recording: bool) -> Option<anyhow::Error> {
    let (from, to) = (&config.from.endpoint, &config.to.endpoint);
    Some(match error {
        Error::Receive(error) => recv::broken(error, from),
        Error::Refused { source, .. } => {
            let what = format!("{}: a message that is lost", about(to));
            anyhow::Error::msg(config.to.link.refused(what, &source))
        }
        Error::Send(error) if to.capabilities().stdio && is_broken_pipe(&error) => {
            return None;
        }
        Error::Send(error) => {
            let lost = "what was taken and not sent is lost";
            anyhow::Error::new(error).context(format!("{}: {lost}", about(to)))
        }
        Error::Idle(limit) => {
            Failure::timed_out(format!("nothing arrived from {from} for {limit:?}"))
        }
        Error::Tap { untapped, source } => {
            let file = match recording {
                true => config.tee.as_deref(),
                false => config.spool.as_deref(),
            };
            let file = file.unwrap_or(Path::new(""));
            let rest = match untapped {
                1 => "1 message was delivered and is not in it".to_owned(),
                n => format!("{n} messages were delivered and are not in it"),
            };
            let context = format!("cannot record to {}: {rest}", file.display());
            anyhow::Error::new(source).context(context)
        }
        Error::GivenUp => {
            anyhow::anyhow!("stopped before {to} took all that was in hand: messages are lost")
        }
        error => anyhow::Error::new(error).context(format!("{from} to {}", about(to))),
    })
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
