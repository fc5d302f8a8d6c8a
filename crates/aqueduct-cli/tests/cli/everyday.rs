//! Everyday tasks by hand and with `aqueduct`, as the README's table has them: those that need a
//! shell and a C compiler. `tests/peers` has those that need socat.

use std::fs;
use std::process::Command;

use crate::mq::Queue;
use crate::readme::{Place, README, Server, row};
use crate::support::{aqueduct, compile_c, expect_text, run, start, until};

/// The tasks whose two commands are tested.
const ROWS: [&str; 14] = [
    "send a line to a FIFO, whichever side starts first",
    "read a FIFO whose writers come and go",
    "put an urgent message into a queue",
    "take one out, or give up after 5 s",
    "run 4 workers on the lines of a FIFO",
    "serve a program on a Unix socket",
    "send it a request",
    "talk to it, both ways at once",
    "collect what all clients of a TCP port write",
    "write to a TCP port that may not be up yet",
    "log a line to syslog",
    "receive what programs log to a datagram socket",
    "send a metric to StatsD",
    "send a packet that stays whole",
];

#[test]
fn the_table_has_the_rows_that_are_tested() {
    assert_eq!(rows(), ROWS.len());
    for task in ROWS {
        row(task);
    }
}

#[test]
fn what_the_readme_shows_is_what_comes() {
    let (jobs, failed) = (Queue::new(), Queue::new());
    let place = Place::new(&[("/jobs", &jobs.name), ("/failed", &failed.name)]);
    let session = session();
    assert!(session.len() > 5);
    for (command, expected) in session {
        let output = run(&mut place.shell(&format!("exec 2>&1; {command}")));
        let got = String::from_utf8(output.stdout).unwrap();
        // Only the time is another.
        let timeless = |text: &str| {
            let lines = text
                .lines()
                .map(|line| match line.split_once("\"time\":\"") {
                    Some((before, rest)) => before.to_owned() + &rest[rest.find('"').unwrap()..],
                    None => line.to_owned(),
                });
            // What comes on two streams may come in another order.
            let mut lines: Vec<_> = lines.collect();
            lines.sort();
            lines
        };
        assert_eq!(
            timeless(&got),
            timeless(&place.here(&expected)),
            "{command}"
        );
    }
}

#[test]
fn a_line_goes_to_a_fifo() {
    let (by_hand, ours) = row(ROWS[0]);
    for (command, first) in [(&by_hand, false), (&ours, false), (&ours, true)] {
        let place = Place::new(&[]);
        let recv = ["recv", "-q", &place.dir().fifo("jobs")];
        let reader = first.then(|| start(&mut aqueduct(&recv)));
        let sender = place.serve(command);
        let path = place.dir().path("jobs");
        until("it is there", || path.exists());
        let reader = reader.unwrap_or_else(|| start(&mut aqueduct(&recv)));
        assert_eq!(expect_text(reader.finish(), 0), "hi\n", "{command}");
        drop(sender);
    }
}

#[test]
fn a_fifo_is_read_though_its_writers_come_and_go() {
    let (by_hand, ours) = row(ROWS[1]);
    for command in [by_hand, ours] {
        let place = Place::new(&[]);
        let out = place.dir().path("out");
        let reader = place.serve(&format!("{{ {command}; }} > /tmp/out"));
        let path = place.dir().path("log");
        until("it is there", || path.exists());
        for i in 1..=3 {
            fs::write(&path, format!("{i}\n")).unwrap();
            let read = || fs::read_to_string(&out).unwrap_or_default();
            until("it is read", || read().lines().count() == i);
        }
        assert_eq!(fs::read_to_string(&out).unwrap(), "1\n2\n3\n", "{command}");
        drop(reader);
    }
}

/// Sends its second argument to the queue in its first with priority 9; or with one argument takes
/// one out and prints it, for 5 seconds at most. What the README counts the lines of.
const QUEUE: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
int main(int argc, char **argv) {
    if (argc == 3) {
        mqd_t queue = mq_open(argv[1], O_WRONLY);
        if (queue == (mqd_t)-1 || mq_send(queue, argv[2], strlen(argv[2]), 9))
            return perror(argv[1]), 1;
        return mq_close(queue);
    }
    struct timespec end;
    struct mq_attr attr;
    char buf[8192];
    unsigned priority;
    mqd_t queue = mq_open(argv[1], O_RDONLY);
    if (queue == (mqd_t)-1 || mq_getattr(queue, &attr) || clock_gettime(CLOCK_REALTIME, &end))
        return perror(argv[1]), 1;
    end.tv_sec += 5;
    ssize_t n = mq_timedreceive(queue, buf, attr.mq_msgsize, &priority, &end);
    if (n < 0)
        return perror(argv[1]), 1;
    printf("%.*s\n", (int)n, buf);
    return priority != 9;
}
"#;

#[test]
fn an_urgent_message_is_put_into_a_queue_and_taken_out() {
    let ((c_send, send), (c_recv, recv)) = (row(ROWS[2]), row(ROWS[3]));
    assert!(c_send.contains("`mq_send`") && c_recv.contains("`mq_timedreceive`"));
    let queue = Queue::new();
    let place = Place::new(&[("/jobs", &queue.name)]);
    let program = compile_c(place.dir(), "queue", QUEUE);
    let create = [
        "mq",
        "create",
        &queue.name,
        "--capacity",
        "2",
        "--max-message",
        "64",
        "-q",
    ];
    expect_text(run(&mut aqueduct(&create)), 0);
    let sends: [&dyn Fn() -> Command; 2] = [
        &|| {
            let mut command = Command::new(&program);
            command.args([&queue.name, "urgent"]);
            command
        },
        &|| place.shell(&send),
    ];
    let recvs: [&dyn Fn() -> Command; 2] = [
        &|| {
            let mut command = Command::new(&program);
            command.arg(&queue.name);
            command
        },
        &|| place.shell(&recv),
    ];
    for send in sends {
        for recv in recvs {
            expect_text(run(&mut send()), 0);
            assert_eq!(expect_text(run(&mut recv()), 0), "urgent\n");
        }
    }
}

#[test]
fn workers_run_on_what_comes_from_a_fifo() {
    let (by_hand, ours) = row(ROWS[4]);
    for (command, ends) in [(by_hand, true), (ours, false)] {
        let place = Place::new(&[]);
        let (path, out) = (place.dir().path("jobs"), place.dir().path("out"));
        nix::unistd::mkfifo(
            &path,
            nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
        )
        .unwrap();
        let mut workers: Server = place.serve(&format!("exec > /tmp/out; {command}"));
        if !ends {
            workers.0.told("serving ");
        }
        let mut send = aqueduct(&["send", "-q", &place.dir().fifo("jobs")]);
        expect_text(run(send.args(["1", "2", "3", "4", "5", "6"])), 0);
        let done = || {
            let text = fs::read_to_string(&out).unwrap_or_default();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        until("all are done", || done().len() == 6);
        assert_eq!(
            done(),
            ["did 1", "did 2", "did 3", "did 4", "did 5", "did 6"]
        );
        if ends {
            assert!(workers.0.wait().success());
        }
    }
}

/// How many rows there are.
fn rows() -> usize {
    let table = README
        .split_once("| task | with socat or by hand")
        .unwrap()
        .1;
    table
        .lines()
        .skip(2)
        .take_while(|it| it.starts_with("| "))
        .count()
}

/// The commands that the README shows with their output.
fn session() -> Vec<(&'static str, String)> {
    let block = README.split_once("```console\n").unwrap().1;
    let block = block.split_once("```").unwrap().0;
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("it begins with a command"),
        }
    }
    commands
}
