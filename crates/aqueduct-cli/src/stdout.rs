//! Data on standard output that is there at once; what comes bit by bit has its own way.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use crate::exit::Exit;

/// Writes all of `text`. Nobody there to read it is no failure.
pub(crate) fn write(text: &str) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
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
    write(&text)
}
