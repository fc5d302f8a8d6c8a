//! What an end tells `tracing`: its life, and nothing of each message.

use std::os::fd::AsFd;

use aqueduct::pipe::{self, packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Log, deadline};

/// Runs `body` in a runtime on this thread, where its log is caught.
fn record<F: Future>(body: F) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    Log::record(|| runtime.block_on(deadline(body))).1
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

#[test]
fn an_end_logs_its_opening_its_lost_peer_and_its_closing() {
    let lines = record(async {
        let (tx, mut rx) = pipe::pipe().unwrap();
        drop(tx);
        assert_eq!(rx.read(&mut [0; 8]).await.unwrap(), 0);
        let (mut tx, rx) = pipe::pipe().unwrap();
        drop(rx);
        tx.write_all(b"x").await.unwrap_err();
    });
    assert_eq!(count(&lines, "pipe sender{fd="), 5, "{lines:#?}");
    assert_eq!(count(&lines, "pipe receiver{fd="), 5, "{lines:#?}");
    assert_eq!(count(&lines, "opened"), 4, "{lines:#?}");
    assert_eq!(count(&lines, "the last writer has gone"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "the last reader has gone"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "closed"), 4, "{lines:#?}");
}

#[test]
fn an_end_of_a_packet_pipe_says_the_same() {
    let lines = record(async {
        let (tx, rx) = packet::pipe().unwrap();
        drop(tx);
        assert_eq!(rx.recv().await.unwrap(), None);
        let (tx, rx) = packet::pipe().unwrap();
        tx.send(b"x").await.unwrap();
        let again = rx.as_fd().try_clone_to_owned().unwrap();
        drop(packet::Receiver::from_owned_fd(again).unwrap());
        drop(rx);
        tx.send(b"x").await.unwrap_err();
    });
    assert_eq!(count(&lines, "opened"), 5, "{lines:#?}");
    assert_eq!(count(&lines, "the last writer has gone"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "the last reader has gone"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "closed"), 5, "{lines:#?}");
    assert_eq!(lines.len(), 12, "{lines:#?}");
}

#[test]
fn messages_are_not_logged() {
    let lines = record(async {
        let (mut tx, mut rx) = pipe::pipe().unwrap();
        for _ in 0..100 {
            tx.write_all(b"message").await.unwrap();
            rx.read_exact(&mut [0; 7]).await.unwrap();
        }
    });
    assert_eq!(count(&lines, "opened") + count(&lines, "closed"), 4);
    assert_eq!(lines.len(), 4, "{lines:#?}");
}
