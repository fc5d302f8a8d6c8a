use std::path::{Path, PathBuf};

use super::{Lane, Place};
use crate::figures::Figures;
use crate::ledger::Record;
use crate::message::Sizes;
use crate::peer::{End, Role, WINDOW};
use crate::process::Process;
use crate::tool::{self, Tool};

const KINDS: [&str; 3] = ["chain", "workers", "service"];

/// Queues take these.
const SIZES: Sizes = Sizes {
    usual: 600,
    largest: 4_000,
};

/// Appends its message to one file, replies with it, and appends it to another file.
const WORK: &str = "IFS= read -r message; \
    printf '%s\\n' \"$message\" >> \"$1\"; printf '%s' \"$message\"; printf '%s\\n' \"$message\" >> \"$2\"";
/// A shell writes these in one piece.
const WORK_SIZES: Sizes = Sizes {
    usual: 200,
    largest: 900,
};

/// `recv`, `relay` and `serve`, stopped with `SIGHUP` and started again while messages pass.
///
/// The contract: each finishes the messages in hand, exits with 0 and leaves nothing behind. The next one
/// gets the rest, so nothing is lost. A client waiting for replies loses at most its window with each
/// connection.
#[derive(Debug)]
pub(crate) struct HangUp {
    place: Place,
}

impl HangUp {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Lane for HangUp {
    const LEAST: usize = KINDS.len();

    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        match self.place.turn(&KINDS) {
            "chain" => self.chain(notes, figures).await,
            "workers" => self.workers(notes, figures).await,
            _ => self.service(notes, figures).await,
        }
    }
}

impl HangUp {
    /// A sender, `relay`, and `recv` or `serve`, over any two addresses.
    async fn chain(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let any = || fastrand::choice(["fifo", "mq", "unix", "unixpacket", "tcp"]);
        let (Some(first), Some(second)) = (any(), any()) else {
            return Ok(());
        };
        let from = self.place.address(first, "first");
        let to = self.place.address(second, "second");
        let last = match matches!(second, "fifo" | "mq") && fastrand::bool() {
            true => ["serve", &to],
            false => ["recv", &to],
        };
        let program = self.place.program.clone();
        let receive = || program.start(notes, "last", &last);
        let relay = || program.start(notes, "relay", &["relay", &from, &to, "--wait", "1m"]);
        let (mut receiver, mut relaying) = (receive()?, relay()?);
        let count = fastrand::u64(2_000..10_000);
        let mut sender = self.place.sender(notes, &from, SIZES, count)?;
        for _ in 0..fastrand::u8(2..6) {
            sender.moves(fastrand::u64(1..count / 5)).await?;
            let which = fastrand::u8(..3);
            if which > 0 {
                relaying.hang_up(figures).await?;
            }
            // The relay delivers what it has to the next receiver.
            if which != 1 {
                receiver.hang_up(figures).await?;
                receiver.finish(figures).await?;
                self.place.gone(second, "second", figures);
                receiver = receive()?;
            }
            if which > 0 {
                relaying.finish(figures).await?;
                self.place.gone(first, "first", figures);
                relaying = relay()?;
            }
        }
        sender.finish(figures, &[End::Whole]).await?;
        receiver.prints(count).await?;
        for last in [&mut relaying, &mut receiver] {
            last.hang_up(figures).await?;
            last.finish(figures).await?;
        }
        self.place.remove(first, "first", figures);
        self.place.remove(second, "second", figures);
        judge(&sender, receiver.printed(), figures);
        Ok(())
    }

    /// `serve` of a queue, with a program for each message.
    async fn workers(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let address = self.place.address("mq", "jobs");
        let work = Work::new(notes);
        let program = self.place.program.clone();
        let serve = || {
            let command = ["serve", &address, "--jobs", "4", "--", "sh", "-c"];
            let command = [&command[..], &work.script()].concat();
            program.start(notes, "serve", &command)
        };
        let mut serving = serve()?;
        let count = fastrand::u64(100..300);
        let mut sender = self.place.sender(notes, &address, WORK_SIZES, count)?;
        for _ in 0..fastrand::u8(2..5) {
            sender.moves(fastrand::u64(1..count / 4)).await?;
            stop(&mut serving, &work, figures).await?;
            serving = serve()?;
        }
        sender.finish(figures, &[End::Whole]).await?;
        work.ends(&mut serving, count).await?;
        stop(&mut serving, &work, figures).await?;
        self.place.remove("mq", "jobs", figures);
        let mut ended = work.ended();
        ended.sort_unstable();
        judge(&sender, ended, figures);
        Ok(())
    }

    /// `serve` of a socket, with a program for each request, and clients that wait for the replies.
    async fn service(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let scheme = fastrand::choice(["unix", "unixpacket", "tcp"]).unwrap_or("unix");
        let address = self.place.address(scheme, "service");
        let work = Work::new(notes);
        let program = self.place.program.clone();
        let serve = || {
            let command = ["serve", &address, "--frame", "length", "--", "sh", "-c"];
            let command = [&command[..], &work.script()].concat();
            program.start(notes, "serve", &command)
        };
        let mut serving = serve()?;
        let count = fastrand::u64(100..300);
        let call = Role::Call {
            address: address.clone(),
            sizes: WORK_SIZES,
            count,
            cut_every: u64::MAX,
        };
        let mut client = Process::start(notes, self.place.id(), call, None)?;
        for _ in 0..fastrand::u8(2..5) {
            client.moves(fastrand::u64(1..count / 4)).await?;
            stop(&mut serving, &work, figures).await?;
            self.place.gone(scheme, "service", figures);
            serving = serve()?;
        }
        client.finish(figures, &[End::Whole]).await?;
        stop(&mut serving, &work, figures).await?;
        self.place.gone(scheme, "service", figures);

        // Programs for one connection run at the same time.
        let mut ended = work.ended();
        ended.sort_unstable();
        let unknown = client.answered().into_iter();
        let unknown = unknown.filter(|it| ended.binary_search(it).is_err());
        let unknown = unknown.count();
        if unknown > 0 {
            figures.wrong(format!("{unknown} were answered and not worked on"));
        }
        let breaks = client.sent().breaks;
        figures.breaks += breaks;
        let unanswered = (ended.len() - client.answered().len().min(ended.len())) as u64;
        if unanswered > breaks * WINDOW {
            figures.wrong(format!("{unanswered} were worked on and not answered"));
        }
        let missing = figures.compare(&[(client.id(), client.sent())], &[ended]);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(lost, breaks * WINDOW, "one window for each connection");
        Ok(())
    }
}

fn judge(sender: &Process, received: Vec<Record>, figures: &mut Figures) {
    let missing = figures.compare(&[(sender.id(), sender.sent())], &[received]);
    let lost = missing.values().map(|it| it.len() as u64).sum();
    figures.losses(lost, 0, "no process was killed");
}

/// Stops a service and checks that all programs have ended.
async fn stop(serving: &mut Tool, work: &Work, figures: &mut Figures) -> anyhow::Result<()> {
    serving.hang_up(figures).await?;
    serving.finish(figures).await?;
    let (begun, ended) = (tool::messages(&work.begun).len(), work.ended().len());
    if begun != ended {
        figures.wrong(format!(
            "{begun} programs had started and {ended} had ended"
        ));
    }
    Ok(())
}

/// The files that the programs of a service append to.
struct Work {
    begun: PathBuf,
    ended: PathBuf,
}

impl Work {
    fn new(notes: &Path) -> Self {
        Self {
            begun: notes.join("begun"),
            ended: notes.join("ended"),
        }
    }

    /// The arguments of `sh -c`.
    fn script(&self) -> [&str; 4] {
        [WORK, "work", text(&self.begun), text(&self.ended)]
    }

    fn ended(&self) -> Vec<Record> {
        tool::messages(&self.ended)
    }

    /// Waits until so many have ended.
    async fn ends(&self, serving: &mut Tool, count: u64) -> anyhow::Result<()> {
        serving.until(|| self.ended().len() as u64, count).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
