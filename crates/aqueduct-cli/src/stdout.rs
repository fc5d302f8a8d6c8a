//! Data on standard output that is there at once; what comes bit by bit has its own way.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use crate::exit::Exit;

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
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item)?);
        text.push('\n');
    }
    write(text)
}
