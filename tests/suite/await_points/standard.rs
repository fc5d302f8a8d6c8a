//! Standard input and output, in a process of its own whose are replaced again and again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aqueduct::stdio::{self, Stdin, Stdout};
use aqueduct_conformance::{every_point, run};
use nix::unistd::{dup2_stdin, dup2_stdout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::alone;

/// What is read is written by the other.
type Ends = fn() -> (OwnedFd, OwnedFd);

/// A pipe is read through an open file of its own, a socket on a thread.
const KINDS: [(&str, Ends); 2] = [
    ("a pipe", || {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader.into(), writer.into())
    }),
    ("a socket", || {
        let (reader, writer) = UnixStream::pair().expect("a pair");
        (reader.into(), writer.into())
    }),
];

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn standard_input() {
    alone("await_points::standard::standard_input", || {
        run(async {
            for (kind, ends) in KINDS {
                reading(kind, ends).await;
            }
        });
    });
}

async fn reading(kind: &str, ends: Ends) {
    every_point(
        &format!("stdio::Stdin::read, {kind}"),
        async || {
            let (reader, writer) = ends();
            dup2_stdin(reader).expect("there is room");
            let stdin = stdio::stdin().expect("it is opened");
            (stdin, (File::from(writer), 0))
        },
        async |stdin: &mut Stdin| stdin.read(&mut [0; 8]).await,
        async |(writer, sent)| {
            if *sent == 0 {
                *sent = writer.write(b"one").expect("it is written");
            }
        },
        async |mut stdin, (writer, sent), output| {
            drop(writer);
            let taken = output.map_or(0, |it| it.expect("it is read"));
            let mut rest = Vec::new();
            stdin.read_to_end(&mut rest).await.expect("it is read");
            assert_eq!(taken + rest.len(), sent);
        },
    )
    .await;
}

#[test]
fn standard_output() {
    alone("await_points::standard::standard_output", || {
        run(async {
            for (kind, ends) in KINDS {
                writing(kind, ends, false).await;
            }
            // Into a pipe all is written at once.
            let (kind, ends) = KINDS[1];
            writing(kind, ends, true).await;
        });
    });
}

/// `write` or `flush`, with all full.
async fn writing(kind: &str, ends: Ends, flushes: bool) {
    let ours = io::stdout().as_fd().try_clone_to_owned();
    let ours = ours.expect("there is room");
    let operation = if flushes { "flush" } else { "write" };
    every_point(
        &format!("stdio::Stdout::{operation}, {kind}"),
        async || {
            let (reader, writer) = ends();
            dup2_stdout(&writer).expect("there is room");
            let mut stdout = stdio::stdout().expect("it is opened");
            // Nothing else is to keep it open.
            dup2_stdout(&ours).expect("there is room");
            drop(writer);
            let mut filled = 0;
            // A thread may be at work: it is full when nothing has moved for a moment.
            while let Ok(n) = timeout(MOMENT, stdout.write(&[0; 4096])).await {
                filled += n.expect("it is written");
            }
            (stdout, (File::from(reader), filled, 0))
        },
        async |stdout: &mut Stdout| {
            if flushes {
                return stdout.flush().await.map(|()| 0);
            }
            stdout.write(b"item").await
        },
        async |(reader, filled, taken)| {
            if taken < filled {
                *taken += reader.read(&mut [0; 65_536]).expect("it is full");
            }
        },
        async |mut stdout, (mut reader, filled, taken), output| {
            let written = output.map_or(0, |it| it.expect("it is written"));
            let rest = std::thread::spawn(move || {
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).map(|n| n + taken)
            });
            stdout.flush().await.expect("it is read");
            drop(stdout);
            let rest = tokio::task::spawn_blocking(|| rest.join()).await;
            let all = rest.expect("it is waited for").expect("it ends");
            assert_eq!(all.expect("it is read"), filled + written);
        },
    )
    .await;
}
