//! C programs on the other side of a queue, knowing nothing but `mq_send` and `mq_receive`.

use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::mq::Queue;
use crate::support::{Dir, aqueduct, compile_c, expect_text, run, start};

/// Makes the queue if it is missing. With no further arguments it sends a struct, whose bytes it
/// also writes to its standard output; else each pair of them as priority and text.
const SENDER: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct reading { uint8_t sensor; double celsius; char place[11]; int64_t nanoseconds; };
int main(int argc, char **argv) {
    struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
    mqd_t queue = mq_open(argv[1], O_WRONLY | O_CREAT, 0600, &attr);
    if (queue == (mqd_t)-1)
        return 1;
    if (argc == 2) {
        struct reading it;
        memset(&it, 0xA5, sizeof it);
        it.sensor = 10;
        it.celsius = -40.5;
        strcpy(it.place, "attic\n");
        it.nanoseconds = INT64_MIN;
        if (fwrite(&it, sizeof it, 1, stdout) != 1)
            return 2;
        return mq_send(queue, (const char *)&it, sizeof it, 7) != 0;
    }
    for (int i = 2; i + 1 < argc; i += 2)
        if (mq_send(queue, argv[i + 1], strlen(argv[i + 1]), atoi(argv[i])) != 0)
            return 3;
    return 0;
}
"#;

/// Makes the queue if it is missing, and prints as many messages as its second argument says.
const RECEIVER: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
    mqd_t queue = mq_open(argv[1], O_RDONLY | O_CREAT, 0600, &attr);
    if (queue == (mqd_t)-1)
        return 1;
    for (int i = 0; i < atoi(argv[2]); i++) {
        char buf[64];
        unsigned priority;
        ssize_t n = mq_receive(queue, buf, sizeof buf, &priority);
        if (n < 0)
            return 2;
        printf("%u %zd %.*s\n", priority, n, (int)n, buf);
    }
    return 0;
}
"#;

/// Either side may start first.
#[test]
fn a_c_struct_is_received_byte_for_byte_in_either_order() {
    let dir = Dir::new();
    let sender = compile_c(&dir, "sender", SENDER);
    let queue = Queue::new();
    let address = format!("mq:{}", queue.name);
    let recv = ["recv", &address, "--output", "raw", "-n", "1"];

    // C first: it makes the queue.
    let sent = run(Command::new(&sender).arg(&queue.name));
    assert!(sent.status.success());
    let received = run(&mut aqueduct(&recv));
    assert!(received.status.success());
    assert_eq!(received.stdout, sent.stdout);
    // All of it has to be there: NUL bytes, a newline, padding.
    let is_in = |byte: u8| received.stdout.contains(&byte);
    assert!(received.stdout.len() >= 28 && is_in(0) && is_in(b'\n') && is_in(0xA5));

    // The receiver first.
    let queue = Queue::new();
    let address = queue.address();
    let receiver = start(&mut aqueduct(&[
        "recv", &address, "--output", "raw", "-n", "1",
    ]));
    let sent = run(Command::new(&sender).arg(&queue.name));
    assert!(sent.status.success());
    assert_eq!(receiver.finish().stdout, sent.stdout);
}

#[test]
fn priorities_come_from_c_and_go_to_it() {
    let dir = Dir::new();
    let sender = compile_c(&dir, "sender", SENDER);
    let receiver = compile_c(&dir, "receiver", RECEIVER);
    let queue = Queue::new();
    let address = queue.address();

    let mut send = Command::new(&sender);
    send.arg(&queue.name);
    let sent = run(send.args(["1", "low", "32767", "highest", "5", ""]));
    assert!(sent.status.success());
    let mut recv = aqueduct(&["recv", &address, "--output", "json", "-n", "3"]);
    let text = expect_text(run(&mut recv), 0);
    let got: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|it| {
            (
                it["priority"].as_u64().unwrap(),
                it["text"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [(32_767, "highest"), (5, ""), (1, "low")];
    assert_eq!(
        got,
        expected.map(|(priority, text)| (priority, text.to_owned()))
    );

    // A struct is no text: JSON has it as base64, with its priority.
    let sent = run(Command::new(&sender).arg(&queue.name));
    let mut recv = aqueduct(&["recv", &address, "--output", "json", "-n", "1"]);
    let line = expect_text(run(&mut recv), 0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["priority"], 7);
    let body = BASE64_STANDARD
        .decode(line["base64"].as_str().unwrap())
        .unwrap();
    assert_eq!(body, sent.stdout);

    for (priority, text) in [("0", "plain"), ("32767", "highest"), ("9", "")] {
        let mut send = aqueduct(&["send", &address, "--priority", priority, text]);
        expect_text(run(&mut send), 0);
    }
    let mut receive = Command::new(&receiver);
    let text = expect_text(run(receive.args([&queue.name, "3"])), 0);
    assert_eq!(text, "32767 7 highest\n9 0 \n0 5 plain\n");
}
