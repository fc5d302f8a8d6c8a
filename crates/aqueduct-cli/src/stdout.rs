//! Standard output.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use aqueduct::stdio::{self, Stdout};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::exit::Exit;
use crate::printable::to_json;
use crate::signals::Signals;

/// Standard output for messages, written as they arrive.
pub(crate) fn open() -> anyhow::Result<Stdout> {
    stdio::stdout().context("cannot open standard output")
}

/// How long a write may take after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Writes all of `buf`, and empties it. A signal sets `signalled`; then it may take a few more seconds,
/// and a second signal ends it.
pub(crate) async fn write_out(
    stdout: &mut Stdout,
    buf: &mut Vec<u8>,
    signals: &mut Signals,
    signalled: &mut bool,
) -> io::Result<()> {
    if buf.is_empty() {
        return Ok(());
    }
    let writing = async {
        stdout.write_all(buf).await?;
        stdout.flush().await
    };
    let given_up = async {
        if !*signalled {
            signals.recv().await;
            *signalled = true;
        }
        let _ = timeout(GRACE, signals.recv()).await;
    };
    let result = tokio::select! {
        biased;
        result = writing => result,
        () = given_up => {
            let reason = "nothing reads it; what was not written is lost";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
    };
    buf.clear();
    result
}

/// Writes all of `data`. Nobody there to read it is no failure.
pub(crate) fn write(data: impl AsRef<[u8]>) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(data.as_ref())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        result => result
            .map(|()| Exit::Done)
            .context("cannot write to standard output"),
    }
}

/// Writes each item as an object on a line of its own.
pub(crate) fn write_json<T: Serialize>(items: &[T]) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    for item in items {
        to_json(item, &mut text)?;
        text.push(b'\n');
    }
    write(text)
}
