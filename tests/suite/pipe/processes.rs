//! The other end in a process of its own, that dies.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use aqueduct::pipe::{self, OpenOptions, packet};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pipe::{Fifo, next_read};
use crate::support::{Peer, compile_c, deadline, is_peer, peer_command};

const FRAME: usize = 4096;

#[test]
fn peer_writes_whole_frames_without_end() {
    if !is_peer("pipe::processes::peer_writes_whole_frames_without_end") {
        return;
    }
    let mut fifo = File::create(std::env::var("AQUEDUCT_TEST_PATH").unwrap()).unwrap();
    for i in 0_u8.. {
        fifo.write_all(&[i; FRAME]).unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_writes_and_the_end() {
    let fifo = Fifo::new();
    for round in 0..5 {
        // Opened anew, so that it waits for this round's writer.
        let mut rx = OpenOptions::new().open_receiver(&fifo).unwrap();
        let mut command = peer_command("pipe::processes::peer_writes_whole_frames_without_end");
        command.env("AQUEDUCT_TEST_PATH", fifo.as_ref());
        let mut peer = Peer::spawn(command.stdout(Stdio::null()));
        let mut all = Vec::new();
        while all.len() < 20 * FRAME + round {
            assert_ne!(deadline(rx.read_buf(&mut all)).await.unwrap(), 0);
        }
        peer.kill();
        deadline(rx.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all.len() % FRAME, 0, "a write of PIPE_BUF was torn");
        for (i, frame) in all.chunks(FRAME).enumerate() {
            assert!(frame.iter().all(|byte| usize::from(*byte) == i % 256));
        }
    }
}

#[tokio::test]
async fn a_killed_reader_is_epipe_and_not_death() {
    let (tx, rx) = pipe::pipe().unwrap();
    let mut tx = tx;
    let mut peer = Peer::spawn(
        Command::new("sleep")
            .arg("1000")
            .stdin(rx.into_blocking_fd().unwrap()),
    );
    tx.write_all(b"never read").await.unwrap();
    peer.kill();
    let gone = deadline(async {
        loop {
            if let Err(e) = tx.write_all(b"x").await {
                break e;
            }
        }
    });
    assert_eq!(gone.await.raw_os_error(), Some(libc::EPIPE));
}

/// Rust programs ignore SIGPIPE; a C program with the default dies of it.
#[tokio::test]
async fn a_c_writer_without_a_reader_dies_of_sigpipe() {
    let dir = TempDir::new().unwrap();
    let program = compile_c(
        dir.path(),
        "writer",
        "#include <signal.h>\n#include <unistd.h>\n\
         int main(void) { signal(SIGPIPE, SIG_DFL); for (;;) if (write(1, \"hello\\n\", 6) != 6) return 1; }\n",
    );
    let (tx, rx) = pipe::pipe().unwrap();
    let mut peer = Peer::spawn(Command::new(program).stdout(tx.into_blocking_fd().unwrap()));
    assert!(
        deadline(next_read(&rx))
            .await
            .unwrap()
            .starts_with(b"hello\n")
    );
    drop(rx);
    let status = peer.exit().await.unwrap();
    assert_eq!(status.signal(), Some(libc::SIGPIPE));
}

#[tokio::test]
async fn a_child_gets_blocking_descriptors_as_standard_streams() {
    let (mut to_child, child_in) = pipe::pipe().unwrap();
    let (child_out, mut from_child) = pipe::pipe().unwrap();
    let mut peer = Peer::spawn(
        Command::new("tr")
            .args(["a-z", "A-Z"])
            .stdin(child_in.into_blocking_fd().unwrap())
            .stdout(child_out.into_blocking_fd().unwrap()),
    );
    to_child.write_all(b"shout").await.unwrap();
    drop(to_child);
    let mut all = String::new();
    deadline(from_child.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "SHOUT");
    assert!(peer.exit().await.unwrap().success());
}

#[tokio::test]
async fn a_write_of_another_program_is_one_message_of_a_packet_pipe() {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_DIRECT).unwrap();
    let rx = packet::Receiver::from_owned_fd(reader).unwrap();
    let mut peer = Peer::spawn(
        Command::new("sh")
            .args(["-c", "echo one; echo two; echo three"])
            .stdout(writer),
    );
    assert!(peer.exit().await.unwrap().success());
    for expected in ["one\n", "two\n", "three\n"] {
        assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), expected);
    }
    assert_eq!(deadline(rx.recv()).await.unwrap(), None);
}
