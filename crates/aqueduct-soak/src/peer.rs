//! What a process of the soak does: one part, told on its command line.

mod call;
mod collect;
mod receive;
mod record;
mod send;
mod serve;

pub(crate) use send::wait_for_fifo;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aqueduct::connect::Options;
use aqueduct::frame::Framing;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::ledger;
use crate::message::Sizes;

/// A process's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its number, which its messages bear.
    pub(crate) id: u32,
    /// Where it keeps its notes.
    pub(crate) notes: PathBuf,
    pub(crate) role: Role,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Sends so many messages one way.
    Send {
        link: Link,
        sizes: Sizes,
        count: u64,
    },
    /// Receives to the end of the stream.
    Receive { link: Link },
    /// Receives lines from all senders of an address, until descriptor 4 ends.
    Collect { address: String },
    /// Appends so many messages to a recording.
    Record {
        file: PathBuf,
        sizes: Sizes,
        count: u64,
    },
    /// Answers all who connect, until descriptor 4 ends.
    Serve { address: String },
    /// Sends so many messages and waits for the answers, and comes again when it is cut off.
    Call {
        address: String,
        sizes: Sizes,
        count: u64,
        /// Cuts its own connection after so many answers, again and again.
        cut_every: u64,
    },
}

/// A one-way mechanism.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Link {
    /// A pipe on descriptor 3.
    Pipe,
    /// A pipe that keeps boundaries, on descriptor 3.
    Packets,
    /// A FIFO with one writer.
    Fifo(PathBuf),
    /// A FIFO with many.
    SharedFifo(PathBuf),
    Queue {
        name: String,
        driver: String,
    },
    /// Lines to an address, across restarts of the receiver.
    Lines(String),
}

/// How often a receiver checks whether its path still names what it has open.
pub(crate) const CHECK_NAME_EVERY: Duration = Duration::from_secs(1);

/// Options for lines.
fn lines() -> Options {
    let mut options = Options::new();
    options
        .framing(Framing::lines())
        .watch_name(Some(CHECK_NAME_EVERY));
    options
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// It did all that it had to, or the stream ended.
    Whole,
    /// The other side was gone: `EPIPE`, `ECONNRESET`.
    PeerGone,
    /// The stream ended inside a message.
    Truncated,
    /// Something that is never right.
    Failed(String),
}

/// What a process says of itself at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) end: End,
    /// Descriptors that were open after all had been dropped.
    pub(crate) leaked: Vec<String>,
}

/// Where a client sends at most so many messages that are not answered yet.
pub(crate) const WINDOW: u64 = 32;

/// The descriptors that a process is started with.
pub(crate) const LINK_FD: i32 = 3;
pub(crate) const STOP_FD: i32 = 4;

/// Plays the part, and writes the report.
pub(crate) fn run(part: &Part) -> anyhow::Result<()> {
    let before = standing()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(play(part));
    drop(runtime);
    let end = end.unwrap_or_else(|error| End::Failed(format!("{error:#}")));
    let report = Report {
        end,
        leaked: leaked(&before)?,
    };
    let path = ledger::path(&part.notes, part.id, "report");
    std::fs::write(path, serde_json::to_string(&report)?)?;
    Ok(())
}

async fn play(part: &Part) -> anyhow::Result<End> {
    let note = |what| ledger::path(&part.notes, part.id, what);
    match &part.role {
        Role::Send { link, sizes, count } => {
            send::run(link, part.id, *sizes, *count, &note("sent")).await
        }
        Role::Collect { address } => collect::run(address, &note("received")).await,
        Role::Record { file, sizes, count } => {
            record::run(file, part.id, *sizes, *count, &note("sent"))
        }
        Role::Receive { link } => receive::run(link, &note("received")).await,
        Role::Serve { address } => serve::run(address, &note("received")).await,
        Role::Call {
            address,
            sizes,
            count,
            cut_every,
        } => {
            let client = call::Client {
                id: part.id,
                sizes: *sizes,
                count: *count,
                cut_every: *cut_every,
            };
            client
                .run(&address.parse()?, &note("sent"), &note("answered"))
                .await
        }
    }
}

/// What an error of the data path means here.
fn end_of(error: &io::Error) -> End {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    match error.kind() {
        BrokenPipe | ConnectionReset | ConnectionAborted | NotConnected => End::PeerGone,
        UnexpectedEof => End::Truncated,
        _ => End::Failed(format!("{error:?}")),
    }
}

/// The descriptors that stay open for as long as the process lives: those that Tokio makes with the
/// first runtime, for signals.
pub(crate) fn standing() -> anyhow::Result<Vec<String>> {
    let inherited = descriptors()?;
    drop(Builder::new_current_thread().enable_all().build()?);
    let mut standing = descriptors()?;
    // What a part takes over it has to close.
    standing.retain(|it| !inherited.contains(it));
    Ok(standing)
}

/// What is open beside these and the standard streams.
///
/// The library's timer thread can hold a waker, and with it the runtime's driver, a moment longer than
/// the runtime. So descriptors that are closed within a second are not leaks.
pub(crate) fn leaked(standing: &[String]) -> io::Result<Vec<String>> {
    let since = Instant::now();
    loop {
        let mut open = descriptors()?;
        open.retain(|it| !standing.contains(it));
        if open.is_empty() || since.elapsed() > Duration::from_secs(1) {
            return Ok(open);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is open beside the standard streams.
pub(crate) fn descriptors() -> io::Result<Vec<String>> {
    let directory = Path::new("/proc/self/fd");
    let mut open = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let number = entry?.file_name();
        let number = number.to_string_lossy();
        // That of the listing itself has gone when its link is read.
        if let Ok(link) = std::fs::read_link(directory.join(&*number))
            && number.parse::<u32>().is_ok_and(|it| it > 2)
            && !link.starts_with("/proc")
        {
            open.push(format!("{number}: {}", link.display()));
        }
    }
    Ok(open)
}
