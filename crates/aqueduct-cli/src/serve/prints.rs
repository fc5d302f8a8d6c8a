//! [`Prints`]: what becomes of what a program prints.

use anyhow::Context;
use aqueduct::bytes::{Bytes, BytesMut};
use aqueduct::child;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

/// The largest piece.
const PIECE: usize = 64 * 1024;

/// What becomes of what a program prints.
pub(super) enum Prints {
    /// It is kept until the program has ended.
    Gathered {
        output: Vec<u8>,
        largest: usize,
        /// What is said where it is more.
        advice: &'static str,
    },
    /// It is passed on as it is printed.
    Poured(mpsc::Sender<Bytes>),
}

impl Prints {
    pub(super) fn gathered(largest: usize, advice: &'static str) -> Self {
        let output = Vec::new();
        Self::Gathered {
            output,
            largest,
            advice,
        }
    }

    /// A program is about to run.
    pub(super) fn begin(&mut self) {
        if let Self::Gathered { output, .. } = self {
            output.clear();
        }
    }

    /// What was gathered.
    pub(super) fn take(self) -> Vec<u8> {
        match self {
            Self::Gathered { output, .. } => output,
            Self::Poured(_) => Vec::new(),
        }
    }

    /// Takes all that comes. It is closed behind that: what prints without an end is ended.
    pub(super) async fn read(&mut self, mut stdout: child::Receiver) -> anyhow::Result<()> {
        const FAILED: &str = "cannot read what it prints";
        match self {
            Self::Gathered {
                output,
                largest,
                advice,
            } => {
                let mut stdout = stdout.take((*largest as u64).saturating_add(1));
                stdout.read_to_end(output).await.context(FAILED)?;
                if output.len() > *largest {
                    output.truncate(*largest);
                    anyhow::bail!("it printed more than {largest} bytes, and is cut off: {advice}");
                }
            }
            Self::Poured(pieces) => {
                let mut buf = BytesMut::new();
                loop {
                    buf.reserve(PIECE);
                    if stdout.read_buf(&mut buf).await.context(FAILED)? == 0 {
                        break;
                    }
                    // Nobody there to read it is no failure.
                    if pieces.send(buf.split().freeze()).await.is_err() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
