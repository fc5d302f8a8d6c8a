//! Message queues with programs in C on the other side, which know nothing of this library.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use aqueduct::mq::{self, Driver};

use crate::mq::{QueueName, body, message, over_both_drivers};
use crate::support::{Peer, compile_c, deadline};

over_both_drivers!(
    a_c_program_sends_structs_and_priorities,
    a_c_program_receives_them,
    a_request_to_be_notified_is_used_up_by_a_receiver,
);

const C_SENDER: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdint.h>
#include <string.h>

struct reading { uint8_t kind; uint32_t id; double value; char unit[5]; };

int main(int argc, char **argv) {
    mqd_t q = mq_open(argv[1], O_WRONLY);
    if (argc != 2 || q == (mqd_t)-1) return 1;
    struct reading r;
    memset(&r, 0, sizeof r);
    r.kind = 7; r.id = 0xdeadbeef; r.value = -0.5;
    memcpy(r.unit, "km/h", 5);
    if (mq_send(q, (char *)&r, sizeof r, 3)) return 2;
    if (mq_send(q, "urgent", 6, 31)) return 3;
    if (mq_send(q, "", 0, 0)) return 4;
    return mq_close(q) ? 5 : 0;
}
"#;

const C_RECEIVER: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>

int main(int argc, char **argv) {
    mqd_t q = mq_open(argv[1], O_RDONLY);
    if (argc != 2 || q == (mqd_t)-1) return 1;
    for (int i = 0; i < 4; i++) {
        char buf[64];
        unsigned prio;
        ssize_t n = mq_receive(q, buf, sizeof buf, &prio);
        if (n < 0) return 2;
        printf("%u:", prio);
        for (ssize_t k = 0; k < n; k++) printf("%02x", (unsigned char)buf[k]);
        printf("\n");
    }
    return mq_close(q) ? 3 : 0;
}
"#;

/// A struct that a C program sends arrives byte for byte, with its priority.
async fn a_c_program_sends_structs_and_priorities(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 3, 64);
    let directory = tempfile::tempdir().unwrap();
    let program = compile_c(directory.path(), "sender", C_SENDER);
    let waiting = queue.recv();
    let run = async {
        let mut peer = Peer::spawn(Command::new(program).arg(&name.0));
        assert!(peer.exit().await.unwrap().success());
    };
    let (first, ()) = tokio::join!(waiting, run);
    // The first to come may have met a receiver that waited.
    let mut all = vec![first.unwrap()];
    for _ in 0..2 {
        all.push(queue.recv().await.unwrap());
    }
    all.sort_by_key(|it| it.priority().unwrap());
    let mut reading = vec![7, 0, 0, 0];
    reading.extend(0xdead_beef_u32.to_ne_bytes());
    reading.extend((-0.5_f64).to_ne_bytes());
    reading.extend(b"km/h\0\0\0\0");
    assert_eq!(all[0], message(0, ""));
    assert_eq!(all[1], message(3, reading));
    assert_eq!(all[2], message(31, "urgent"));
}

/// What is sent here a C program receives by priority, byte for byte.
async fn a_c_program_receives_them(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 4, 64);
    for (priority, body) in [
        (0, &b"\0\xff"[..]),
        (9, b"nine"),
        (32_767, b"top"),
        (9, b""),
    ] {
        queue.send(priority, body).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let program = compile_c(directory.path(), "receiver", C_RECEIVER);
    let mut peer = Peer::spawn(Command::new(program).arg(&name.0).stdout(Stdio::piped()));
    assert!(peer.exit().await.unwrap().success());
    let mut text = String::new();
    peer.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "32767:746f70\n9:6e696e65\n9:\n0:00ff\n");
}

const C_NOTIFIED: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv) {
    mqd_t q = mq_open(argv[1], O_RDONLY);
    if (argc != 2 || q == (mqd_t)-1) return 1;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (sigprocmask(SIG_BLOCK, &set, NULL)) return 2;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    if (mq_notify(q, &event)) return 3;
    puts("asked");
    fflush(stdout);
    int got;
    if (sigwait(&set, &got)) return 4;
    return mq_close(q) ? 5 : 0;
}
"#;

/// One process at a time may ask the kernel to be told of the next message. Looking at the queue and
/// waiting for it take nothing away from that. A message that a waiting receiver takes uses the
/// request up, though: this library waits by `epoll`, and the kernel spares the request only for
/// processes that block in `mq_receive`.
async fn a_request_to_be_notified_is_used_up_by_a_receiver(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    let directory = tempfile::tempdir().unwrap();
    let program = compile_c(directory.path(), "notified", C_NOTIFIED);
    let mut peer = Peer::spawn(Command::new(program).arg(&name.0).stdout(Stdio::piped()));
    let stdout = peer.0.stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    for _ in 0..2 {
        let entry = mq::info(&name.0).unwrap();
        assert_eq!(entry.notified, Some(peer.0.id()));
    }

    let mut recv = tokio_test::task::spawn(queue.recv());
    tokio_test::assert_pending!(recv.poll());
    name.open(driver).send(0, b"x").await.unwrap();
    assert_eq!(deadline(recv).await.unwrap(), body("x"));
    assert!(peer.exit().await.unwrap().success(), "it was notified");
    assert_eq!(mq::info(&name.0).unwrap().notified, None);
}
