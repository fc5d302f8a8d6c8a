//! Standard output.

use std::io::{self, Write};

use anyhow::Context;
use aqueduct::stdio::{self, Stdout};
use serde::Serialize;

use crate::exit::Exit;
use crate::printable::to_json;

/// Standard output for messages, written as they arrive.
pub(crate) fn open() -> anyhow::Result<Stdout> {
    stdio::stdout().context("cannot open standard output")
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
