//! A log collector: any number of programs write lines to one FIFO, and the service writes them to
//! a file, each with its time of arrival.
//!
//! Terminal 1, the service:
//!
//! ```text
//! cargo run --example log_collector -- serve /tmp/log.fifo /tmp/all.log
//! ```
//!
//! Terminal 2 and more, programs that log, which may be shell scripts:
//!
//! ```text
//! cargo run --example log_collector -- log /tmp/log.fifo backup "disk 3 is full" "giving up"
//! echo "cron: nothing to do" > /tmp/log.fifo
//! ```
//!
//! Terminal 3, to watch:
//!
//! ```text
//! tail -f /tmp/all.log
//! ```
//!
//! - Lines of at most 4,096 bytes never mix, however many programs write at the same time, and a
//!   program that is killed leaves none cut off. `log` refuses longer lines. Of longer lines from
//!   other programs the service keeps the first 16 KiB.
//! - Programs come and go, and the service goes on. A program that must not lose lines while the
//!   service is down has to wait for it, as `log` does.
//! - `kill -HUP` makes the service open its file again, after another program has moved it away.
//! - Ctrl-C and `SIGTERM` end it: it writes the lines that have arrived, and removes the FIFO.
//! - If the FIFO is removed or replaced, programs no longer find the service. It then reports this
//!   and ends with an error, so that its supervisor starts it again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use aqueduct::bytes::{Buf, Bytes, BytesMut};
use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::{FramedRead, Framing};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::codec::Decoder;

/// How much of a line is kept.
const LONGEST: usize = 16 * 1024;
/// What is gathered in memory at most before it is written to the file.
const BATCH: usize = 256 * 1024;
/// How often to check that the FIFO is still at its path, where no event tells.
const WATCH: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", fifo, file] => serve(fifo.as_ref(), file.into()).await,
        ["log", fifo, program, messages @ ..] => log(fifo.as_ref(), program, messages).await,
        _ => bail!("usage: log_collector serve FIFO FILE | log FIFO PROGRAM MESSAGE..."),
    }
}

/// What a program does that logs.
async fn log(fifo: &Path, program: &str, messages: &[&str]) -> Result<()> {
    let fifo = fifo::OpenOptions::new()
        .create(true)
        .open_sender(fifo)
        .await?;
    // Lines of at most 4,096 bytes with the newline need no lock, which shell scripts do not take.
    let framing = Framing::lines().max_frame(4095);
    let mut log = SharedSender::new(fifo, framing);
    for message in messages {
        let line = Bytes::from(format!("{program}: {message}"));
        log.feed(line).await.context("a line is not logged")?;
    }
    log.close().await?;
    Ok(())
}

async fn serve(fifo: &Path, file: PathBuf) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let receiver = fifo::OpenOptions::new()
        .create(true)
        // The service is a writer of its own FIFO: the stream does not end when others leave.
        .persist(true)
        .unlink_on_drop(true)
        .watch_name(WATCH)
        .open_receiver(fifo)?;
    let mut lines = FramedRead::with_codec(receiver, LogLines::default());
    let mut log = Log::open(file).await?;
    tracing::info!(?fifo, file = ?log.path, "collecting");
    let mut running = true;
    while running {
        tokio::select! {
            biased;
            _ = terminate.recv() => running = false,
            _ = interrupt.recv() => running = false,
            _ = hang_up.recv() => log.open_again().await?,
            line = lines.next() => log.add(&line.context("the FIFO has ended")??),
        }
        // Lines that are there already join the same write; also those that came before a signal.
        while log.batch.len() < BATCH
            && let Some(line) = lines.next().now_or_never()
        {
            log.add(&line.context("the FIFO has ended")??);
        }
        log.write().await?;
    }
    tracing::info!(lines = log.lines, "stopped");
    Ok(())
}

/// The file that lines are kept in.
struct Log {
    path: PathBuf,
    file: File,
    batch: Vec<u8>,
    lines: u64,
}

impl Log {
    async fn open(path: PathBuf) -> Result<Self> {
        Ok(Self {
            file: append(&path).await?,
            path,
            batch: Vec::new(),
            lines: 0,
        })
    }

    async fn open_again(&mut self) -> Result<()> {
        self.file = append(&self.path).await?;
        tracing::info!(file = ?self.path, "opened again");
        Ok(())
    }

    fn add(&mut self, line: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let time = format!("{}.{:03} ", now.as_secs(), now.subsec_millis());
        self.batch.extend_from_slice(time.as_bytes());
        self.batch.extend_from_slice(line);
        self.batch.push(b'\n');
        self.lines += 1;
    }

    /// Writes what is gathered, all at once.
    async fn write(&mut self) -> Result<()> {
        self.file.write_all(&self.batch).await?;
        // Tokio's file writes behind our back; here its errors come.
        self.file.flush().await?;
        self.batch.clear();
        Ok(())
    }
}

async fn append(path: &Path) -> Result<File> {
    let file = File::options().append(true).create(true).open(path).await;
    file.with_context(|| format!("cannot open {path:?}"))
}

/// Lines, of which the part beyond [`LONGEST`] is thrown away: one bad program must not stop the
/// service, as [`Framing::lines`] would by treating an endless line as an error. Any tokio-util
/// decoder does in its place.
#[derive(Default)]
struct LogLines {
    /// The line at hand has been delivered; its rest is not wanted.
    skipping: bool,
}

impl Decoder for LogLines {
    type Item = Bytes;
    type Error = std::io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> std::io::Result<Option<Bytes>> {
        loop {
            let newline = src.iter().take(LONGEST + 1).position(|b| *b == b'\n');
            let end = newline.unwrap_or(src.len().min(LONGEST));
            if newline.is_none() && end < LONGEST && !self.skipping {
                return Ok(None);
            }
            // Copied, so that a line that is kept does not keep the whole buffer.
            let line = Bytes::copy_from_slice(&src[..end]);
            src.advance(end + usize::from(newline.is_some()));
            let wanted = !self.skipping;
            self.skipping = newline.is_none();
            if wanted {
                return Ok(Some(line));
            }
            if src.is_empty() {
                return Ok(None);
            }
        }
    }
}
