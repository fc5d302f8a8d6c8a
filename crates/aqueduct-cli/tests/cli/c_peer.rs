//! Unrelated C programs on the other side, knowing nothing but open, read and write.

use std::process::Command;

use crate::support::{Dir, aqueduct, compile_c, expect_text, run, start, until, until_open};

/// Writes its second argument with its terminating NUL into the FIFO that its first one names.
const WRITER: &str = r#"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int fd = open(argv[1], O_WRONLY);
    size_t len = strlen(argv[2]) + 1;
    return fd < 0 || write(fd, argv[2], len) != (ssize_t)len;
}
"#;

/// Prints what one read returns, which must be a whole string, and its size.
const READER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char buf[4096];
    int fd = open(argv[1], O_RDONLY);
    ssize_t n = read(fd, buf, sizeof buf);
    if (n <= 0 || buf[n - 1] != 0)
        return 1;
    printf("%zd %s\n", n, buf);
    return 0;
}
"#;

fn c_program(dir: &Dir, source: &str, args: &[&str]) -> Command {
    let mut command = Command::new(compile_c(dir, "peer", source));
    command.arg(dir.path("x")).args(args);
    command
}

#[test]
fn a_c_program_is_received_when_the_receiver_is_first() {
    let dir = Dir::new();
    let mut writer = c_program(&dir, WRITER, &["the text\nof C"]);
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo, "--frame", "nul", "-n", "1"]));
    until("the FIFO is made", || dir.path("x").exists());
    expect_text(run(&mut writer), 0);
    assert_eq!(expect_text(recv.finish(), 0), "the text\nof C\n");
}

#[test]
fn what_a_c_program_writes_is_printed_when_the_writer_is_first() {
    let dir = Dir::new();
    let mkfifo = Command::new("mkfifo").arg(dir.path("x")).status().unwrap();
    assert!(mkfifo.success());
    let writer = start(&mut c_program(&dir, WRITER, &["early"]));
    let fifo = dir.fifo("x");
    let mut recv = aqueduct(&["recv", "-q", &fifo, "--frame", "nul", "-n", "1"]);
    assert_eq!(expect_text(run(&mut recv), 0), "early\n");
    expect_text(writer.finish(), 0);
}

#[test]
fn a_c_program_reads_a_whole_message_when_the_reader_is_first() {
    let dir = Dir::new();
    let mkfifo = Command::new("mkfifo").arg(dir.path("x")).status().unwrap();
    assert!(mkfifo.success());
    let reader = start(&mut c_program(&dir, READER, &[]));
    let mut send = aqueduct(&["send", "-q", &dir.fifo("x"), "--frame", "nul", "hi"]);
    expect_text(run(&mut send), 0);
    assert_eq!(expect_text(reader.finish(), 0), "3 hi\n");
}

#[test]
fn a_c_program_reads_a_whole_message_when_the_sender_is_first() {
    let dir = Dir::new();
    let mut reader = c_program(&dir, READER, &[]);
    let send = start(&mut aqueduct(&[
        "send",
        "-q",
        &dir.fifo("x"),
        "--frame",
        "nul",
        "hi",
    ]));
    // It waits for a reader with the FIFO in view and not open.
    until_open(send.pid(), &dir.path("x"));
    assert_eq!(expect_text(run(&mut reader), 0), "3 hi\n");
    expect_text(send.finish(), 0);
}
