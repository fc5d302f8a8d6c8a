//! `mq limits` and `mq list`, where what they say must be exact: among queues of one's own.

use std::fs::File;

use crate::namespace::{alone, aqueduct};
use crate::support::{expect, expect_text, run};

/// What `mq limits` says, as JSON.
fn limits(flags: &[&str]) -> serde_json::Value {
    let args = [&["mq", "limits", "--json"], flags].concat();
    serde_json::from_str(&expect_text(run(&mut aqueduct(&args)), 0)).unwrap()
}

fn create(name: &str, flags: &[&str]) {
    let args = [&["-q", "mq", "create", name], flags].concat();
    assert_eq!(expect_text(run(&mut aqueduct(&args)), 0), "");
}

fn unlink(name: &str) {
    expect_text(run(&mut aqueduct(&["-q", "mq", "unlink", name])), 0);
}

/// Makes queues of the default size until one is refused; how many there were, and why.
fn fill() -> (u64, String) {
    for n in 0.. {
        let output = run(&mut aqueduct(&[
            "-q",
            "mq",
            "create",
            &format!("/fill-{n}"),
        ]));
        if !output.status.success() {
            return (n, expect(output, 1).1);
        }
    }
    unreachable!("there is always a limit")
}

/// Making one more fails with the predicted error.
#[test]
fn limits_predict_how_many_more_queues_can_be_made() {
    if !alone(
        "mq_limits::limits_predict_how_many_more_queues_can_be_made",
        true,
    ) {
        return;
    }
    let all = limits(&[])["room"]["queues"].as_u64().unwrap();
    // One that is smaller, so that the division leaves a rest.
    create("/small", &["--capacity", "3", "--max-message", "77"]);
    let before = limits(&[]);
    let cost = 3 * (77 + 96);
    assert_eq!(before["used"]["own_bytes"], cost);
    assert_eq!(before["used"]["own_queues"], 1);
    let room = before["room"]["queues"].as_u64().unwrap();
    let soft = before["bytes_soft"].as_u64().unwrap();
    assert_eq!(
        room,
        (soft - cost) / before["room"]["cost"].as_u64().unwrap()
    );
    assert!(room <= all);
    assert_eq!(before["room"]["ends_with"], "RLIMIT_MSGQUEUE");
    assert_eq!(before["room"]["measured"], false);
    let measured = limits(&["--measure"]);
    assert_eq!(measured["room"]["queues"], room);
    assert_eq!(measured["room"]["ends_with"], "RLIMIT_MSGQUEUE");

    let (made, why) = fill();
    assert_eq!(made, room, "{before}");
    assert!(
        why.contains("RLIMIT_MSGQUEUE") && why.contains("ulimit -q"),
        "{why}"
    );
    assert_eq!(why.lines().count(), 1);
    assert_eq!(limits(&[])["room"]["queues"], 0);
    unlink("/fill-0");
    assert_eq!(limits(&[])["room"]["queues"], 1);

    // In words.
    let (stdout, stderr) = expect(run(&mut aqueduct(&["mq", "limits"])), 0);
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(
        stdout.contains("\nroom\t1\t-\tdefault queues\tRLIMIT_MSGQUEUE\n"),
        "{stdout}"
    );
    assert!(
        stderr.contains(": 1 more queue of the default size can be made"),
        "{stderr}"
    );
    assert!(stderr.contains("LimitMSGQUEUE="), "{stderr}");
    // And where it is created.
    let (_, stderr) = expect(run(&mut aqueduct(&["mq", "create", "/last"])), 0);
    assert!(stderr.contains("; 0 more like it can be made"), "{stderr}");
}

/// Where queues cannot be listed, each command names what it does not know.
#[test]
fn without_a_queue_list_other_commands_work_and_say_so() {
    if !alone(
        "mq_limits::without_a_queue_list_other_commands_work_and_say_so",
        false,
    ) {
        return;
    }
    for args in [&["mq", "list"][..], &["mq", "list", "--json"]] {
        let (stdout, stderr) = expect(run(&mut aqueduct(args)), 1);
        assert!(stdout.is_empty());
        assert!(
            stderr.contains("mount -t mqueue none /dev/mqueue"),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
    let room = limits(&["--measure"])["room"]["queues"].as_u64().unwrap();
    create("/hidden", &[]);
    let info = expect_text(run(&mut aqueduct(&["mq", "info", "/hidden"])), 0);
    assert!(info.contains("\nmode\t0600\n"), "{info}");
    // One that nobody has open is not seen; it is said, and to try it out finds it.
    assert_eq!(limits(&[])["used"]["listed"], false);
    assert_eq!(limits(&[])["room"]["queues"], room);
    assert_eq!(limits(&["--measure"])["room"]["queues"], room - 1);
    let (_, stderr) = expect(run(&mut aqueduct(&["mq", "limits"])), 0);
    assert!(
        stderr.contains(&format!("at most {room} more queues")),
        "{stderr}"
    );
    assert!(stderr.contains("--measure"), "{stderr}");
    unlink("/hidden");
    expect(run(&mut aqueduct(&["mq", "info", "/hidden"])), 1);
}

#[test]
fn mq_list_has_a_line_for_each_queue_of_any_name() {
    if !alone(
        "mq_limits::mq_list_has_a_line_for_each_queue_of_any_name",
        true,
    ) {
        return;
    }
    const HEADER: &str = "name\tmessages\tcapacity\tbytes\tmax_message\tmode\towner\n";
    let list = || expect_text(run(&mut aqueduct(&["mq", "list"])), 0);
    assert_eq!(list(), HEADER);
    assert_eq!(
        expect_text(run(&mut aqueduct(&["mq", "list", "--json"])), 0),
        ""
    );
    create("/b", &["--capacity", "3", "--max-message", "100"]);
    create(
        "/a",
        &["--capacity", "1", "--max-message", "1KiB", "--mode", "0642"],
    );
    expect_text(run(&mut aqueduct(&["send", "mq:/b", "12345", ""])), 0);
    let owner = nix::unistd::getuid();
    let expected =
        format!("{HEADER}/a\t0\t1\t0\t1024\t0642\t{owner}\n/b\t2\t3\t5\t100\t0600\t{owner}\n");
    assert_eq!(list(), expected);
    let json = expect_text(run(&mut aqueduct(&["mq", "list", "--json"])), 0);
    let objects = json.lines().map(|it| serde_json::from_str(it).unwrap());
    let objects: Vec<serde_json::Value> = objects.collect();
    let expected = serde_json::json!({
        "name": "/b", "messages": 2, "capacity": 3, "bytes": 5, "max_message": 100,
        "mode": "0600", "owner": owner.as_raw(), "owner_name": null,
        "group": nix::unistd::getgid().as_raw(), "cost": 3 * (100 + 96), "notified": null,
    });
    assert_eq!(objects[1], expected);
    let info = expect_text(run(&mut aqueduct(&["mq", "info", "mq:/b", "--json"])), 0);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&info).unwrap(),
        expected
    );

    // What another program may have made: a row stays a row, and nothing steers the terminal.
    File::create("/dev/mqueue/odd\tname\x1b[2J\n").unwrap();
    let text = list();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("\n/odd\\tname\\u{1b}[2J\\n\t0\t"), "{text}");
}
