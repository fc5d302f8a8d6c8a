//! The FIFO examples, run as their heads say.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Peer, deadline, example};

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    deadline(waiting).await;
    assert!(happened(), "{what}");
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn writer_and_reader_meet_whichever_starts_first() {
    for writer_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, out) = (dir.path().join("greetings"), dir.path().join("out"));
        let start_writer = || {
            let mut writer = example("fifo_writer");
            writer
                .arg(&fifo)
                .args(["hello", "how are you"])
                .stderr(Stdio::null());
            Peer::spawn(&mut writer)
        };
        let first = writer_first.then(start_writer);
        if writer_first {
            until("the writer has made the FIFO", || fifo.exists()).await;
        }
        let mut reader = example("fifo_reader");
        reader
            .arg(&fifo)
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::null());
        let mut reader = Peer::spawn(&mut reader);
        until("the FIFO is there", || fifo.exists()).await;
        let mut writer = first.unwrap_or_else(start_writer);
        assert!(writer.exit().await.unwrap().success());
        assert!(reader.exit().await.unwrap().success());
        assert_eq!(text(&out), "hello\nhow are you\n");
        // Removed by the reader if the reader has made it.
        assert_eq!(fifo.exists(), writer_first);
    }
}

#[tokio::test]
async fn the_log_collector_keeps_the_lines_of_all_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, log) = (dir.path().join("log.fifo"), dir.path().join("all.log"));
    let mut serve = example("log_collector");
    serve
        .arg("serve")
        .arg(&fifo)
        .arg(&log)
        .stderr(Stdio::null());
    let mut serve = Peer::spawn(&mut serve);
    until("the FIFO is there", || fifo.exists()).await;

    let programs: Vec<_> = (0..4)
        .map(|i| {
            let mut program = example("log_collector");
            program.arg("log").arg(&fifo).arg(format!("program{i}"));
            Peer::spawn(program.args(["one", "two"]))
        })
        .collect();
    for mut program in programs {
        assert!(program.exit().await.unwrap().success());
    }
    // A program that knows nothing but the path, with a line that is far too long.
    let mut plain = File::options().write(true).open(&fifo).unwrap();
    plain.write_all(&b"y".repeat(40_000)).unwrap();
    plain.write_all(b"\nafter\n").unwrap();
    until("all is written", || text(&log).ends_with(" after\n")).await;

    let text = text(&log);
    for i in 0..4 {
        let one = text.find(&format!(" program{i}: one\n")).unwrap();
        let two = text.find(&format!(" program{i}: two\n")).unwrap();
        assert!(one < two);
    }
    assert_eq!(text.lines().count(), 10);
    assert_eq!(
        text.matches('y').count(),
        16 * 1024,
        "the first part of the long line"
    );

    kill(Pid::from_raw(serve.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(serve.exit().await.unwrap().success());
    assert!(!fifo.exists());
}
