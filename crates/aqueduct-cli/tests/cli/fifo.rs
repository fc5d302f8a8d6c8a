//! `send` and `recv` over a FIFO.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Dir, aqueduct, expect, expect_text, read_with_deadline, run, start, start_with_input, until,
    until_open,
};

#[test]
fn lines_arrive_when_the_receiver_is_first() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo, "-n", "2"]));
    until("the FIFO is made", || dir.path("x").exists());
    let send = start_with_input(&mut aqueduct(&["send", &fifo]), "a\nb\n");
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\n");
    expect_text(send.finish(), 0);
}

/// The notice that the sender waits is printed once.
#[test]
fn lines_arrive_when_the_sender_is_first_and_waits_once_told() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let mut send = aqueduct(&["send", &fifo, "a", "b"]);
    let mut send = send.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = send.stderr.take().unwrap();
    let told = format!("aqueduct: waiting for a reader of {fifo}\n");
    let read = stderr.as_fd().try_clone_to_owned().unwrap();
    let read = read_with_deadline(File::from(read), told.len());
    assert_eq!(String::from_utf8(read).unwrap(), told);
    // It ends with the stream, not with a count.
    let recv = run(&mut aqueduct(&["recv", &fifo]));
    assert_eq!(expect_text(recv, 0), "a\nb\n");
    assert!(send.wait().unwrap().success());
    let mut more = String::new();
    stderr.read_to_string(&mut more).unwrap();
    assert_eq!(more, "");
}

#[test]
fn a_new_fifo_is_private_unless_the_address_says_otherwise() {
    let dir = Dir::new();
    for (query, mode) in [("", 0o600), ("?mode=640", 0o640)] {
        let name = format!("x{mode:o}");
        let address = format!("{}{query}", dir.fifo(&name));
        let output = run(&mut aqueduct(&["recv", &address, "--timeout", "10ms"]));
        expect(output, 3);
        let made = fs::metadata(dir.path(&name)).unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o1000 | mode);
    }
}

#[test]
fn a_missing_fifo_is_not_made_where_the_address_forbids_it() {
    let dir = Dir::new();
    let address = format!("{}?create=false", dir.fifo("x"));
    for args in [&["recv", &address][..], &["send", &address, "hi"]] {
        let (_, stderr) = expect(run(&mut aqueduct(args)), 1);
        assert!(stderr.contains("does not exist"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert!(!dir.path("x").exists());
}

#[test]
fn what_is_no_fifo_is_refused_and_left_alone() {
    let dir = Dir::new();
    fs::write(dir.path("file"), "precious").unwrap();
    let (_, stderr) = expect(run(&mut aqueduct(&["send", &dir.fifo("file"), "hi"])), 1);
    assert!(stderr.contains("regular file, not a FIFO"), "{stderr}");
    assert_eq!(fs::read_to_string(dir.path("file")).unwrap(), "precious");
}

#[test]
fn a_receiver_that_persists_outlives_its_senders() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let address = format!("{fifo}?persist=true");
    let recv = start(&mut aqueduct(&["recv", &address, "-n", "3"]));
    until("the FIFO is made", || dir.path("x").exists());
    for message in ["one", "two", "three"] {
        expect_text(run(&mut aqueduct(&["send", &fifo, message])), 0);
    }
    assert_eq!(expect_text(recv.finish(), 0), "one\ntwo\nthree\n");
}

#[test]
fn a_count_leaves_what_follows_to_the_next_receiver() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    expect(run(&mut aqueduct(&["recv", &fifo, "--timeout", "1ms"])), 3);
    // Somebody keeps it open, or what is in it would go with the last one to close it.
    let path = dir.path("x");
    let mut keeper = File::options().read(true).write(true).open(path).unwrap();
    keeper.write_all(b"one\ntwo\nthree\n").unwrap();
    for expected in ["one\n", "two\n", "three\n"] {
        let recv = run(&mut aqueduct(&["recv", &fifo, "-n", "1"]));
        assert_eq!(expect_text(recv, 0), expected);
    }
}

#[test]
fn a_receiver_that_gets_nothing_gives_up_in_time_with_3() {
    let dir = Dir::new();
    let start = Instant::now();
    let output = run(&mut aqueduct(&["recv", &dir.fifo("x"), "--timeout", "1s"]));
    let (stdout, stderr) = expect(output, 3);
    assert!(start.elapsed() >= Duration::from_secs(1));
    // 1.5 s are promised; a busy machine gets more.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert!(stdout.is_empty());
    assert!(
        stderr.contains("nothing arrived") && stderr.contains("1s"),
        "{stderr}"
    );
}

#[test]
fn a_slow_message_is_waited_for_while_bytes_keep_coming() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let limit = Duration::from_millis(1000);
    let mut recv = aqueduct(&["recv", &fifo, "-n", "1", "--timeout", "1s"]);
    let recv = start(&mut recv);
    until("the FIFO is made", || dir.path("x").exists());
    let mut writer = File::options().write(true).open(dir.path("x")).unwrap();
    let begun = Instant::now();
    // A byte comes well within each limit, and the message takes longer than two.
    while begun.elapsed() < 2 * limit + limit / 2 {
        writer.write_all(b"x").unwrap();
        std::thread::sleep(limit / 20);
    }
    writer.write_all(b"\n").unwrap();
    let message = expect_text(recv.finish(), 0);
    assert!(message.ends_with("x\n"), "{message:?}");
}

#[test]
fn a_timeout_that_no_clock_can_hold_is_none() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let forever = format!("{}s", i64::MAX);
    let recv = start(&mut aqueduct(&["recv", &fifo, "--timeout", &forever]));
    let send = run(&mut aqueduct(&["send", &fifo, "--timeout", &forever, "hi"]));
    expect_text(send, 0);
    assert_eq!(expect_text(recv.finish(), 0), "hi\n");
}

#[test]
fn a_sender_without_a_reader_gives_up_in_time_with_3() {
    let dir = Dir::new();
    for flag in ["--wait", "--timeout"] {
        let output = run(&mut aqueduct(&["send", &dir.fifo("x"), flag, "50ms", "hi"]));
        let (_, stderr) = expect(output, 3);
        assert!(stderr.contains("50ms"), "{stderr}");
    }
}

#[test]
fn a_sender_whose_reader_does_not_read_gives_up_in_time_with_3() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until("the FIFO is made", || dir.path("x").exists());
    until_open(recv.pid(), &dir.path("x"));
    recv.signal(Signal::SIGSTOP);
    // More than the pipe is made to hold.
    let big = [vec![b'x'; 300_000], vec![b'\n']].concat().repeat(8);
    let mut send = aqueduct(&["send", &fifo, "--timeout", "100ms"]);
    expect(start_with_input(&mut send, big).finish(), 3);
}

#[test]
fn a_message_over_the_limit_is_an_error_with_size_and_limit() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo, "--max-frame", "5"]));
    until("the FIFO is made", || dir.path("x").exists());
    let send = start_with_input(&mut aqueduct(&["send", &fifo]), "short\nlonger\n");
    let (stdout, stderr) = expect(recv.finish(), 1);
    // What came before it is printed.
    assert_eq!(stdout, b"short\n");
    assert!(
        stderr.contains("limit of 5") && stderr.contains("--max-frame"),
        "{stderr}"
    );
    expect(send.finish(), 0);
}

/// The oversized input is refused.
#[test]
fn messages_before_input_over_the_limit_are_sent() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until("the FIFO is made", || dir.path("x").exists());
    let mut send = aqueduct(&["send", &fifo, "--max-frame", "5"]);
    let (_, stderr) = expect(start_with_input(&mut send, "short\nlonger\n").finish(), 1);
    assert!(
        stderr.contains("message 2 has more than 5 bytes: raise --max-frame"),
        "{stderr}"
    );
    assert_eq!(expect_text(recv.finish(), 0), "short\n");
}

#[test]
fn an_unterminated_message_is_kept_for_text_refused_otherwise() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    for (frame, sent, printed, code) in [
        ("nul", &b"whole\0half"[..], &b"whole\nhalf\n"[..], 0),
        ("length", b"\0\0\0\x05whole\0\0\0\x05half", b"whole\n", 1),
    ] {
        let recv = start(&mut aqueduct(&["recv", &fifo, "--frame", frame]));
        until_open(recv.pid(), &dir.path("x"));
        fs::write(dir.path("x"), sent).unwrap();
        let (stdout, stderr) = expect(recv.finish(), code);
        assert_eq!(stdout, printed, "{frame}: {stderr}");
        assert_eq!(stderr.contains("ended inside"), code == 1, "{stderr}");
    }
}

#[test]
fn a_reader_that_leaves_is_an_error_for_the_sender() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let mut send = start(aqueduct(&["send", &fifo]).stdin(Stdio::piped()));
    let mut stdin = send.stdin();
    stdin.write_all(b"one\n").unwrap();
    let recv = run(&mut aqueduct(&["recv", &fifo, "-n", "1"]));
    assert_eq!(expect_text(recv, 0), "one\n");
    stdin.write_all(b"two\n").unwrap();
    let (_, stderr) = expect(send.finish(), 1);
    assert!(stderr.contains("the reader has gone"), "{stderr}");
}

#[test]
fn every_framing_carries_what_it_can() {
    let dir = Dir::new();
    for (frame, messages) in [
        ("lines", &["a", "", "ü"][..]),
        ("nul", &["a\nb", "", "c"]),
        ("length", &["a\nb", "", "c"]),
    ] {
        let fifo = dir.fifo(frame);
        let recv = start(&mut aqueduct(&["recv", &fifo, "--frame", frame]));
        until("the FIFO is made", || dir.path(frame).exists());
        let mut send = aqueduct(&["send", &fifo, "--frame", frame]);
        expect_text(run(send.args(messages)), 0);
        let expected: String = messages.iter().map(|it| format!("{it}\n")).collect();
        assert_eq!(expect_text(recv.finish(), 0), expected, "{frame}");
    }
}

#[test]
fn any_bytes_go_through_whole_in_one_message_or_raw() {
    let dir = Dir::new();
    let bytes: Vec<u8> = (0..700_000u64).map(|i| ((i * i) >> 7) as u8).collect();
    for frame in ["length", "raw"] {
        let fifo = dir.fifo(frame);
        let mut recv = aqueduct(&["recv", &fifo, "--frame", frame, "--output", "raw"]);
        let recv = start(&mut recv);
        until("the FIFO is made", || dir.path(frame).exists());
        let mut send = aqueduct(&["send", &fifo, "--frame", frame, "--input", "whole"]);
        expect_text(start_with_input(&mut send, &bytes).finish(), 0);
        let (stdout, stderr) = expect(recv.finish(), 0);
        assert!(stdout == bytes, "{frame}: {} bytes", stdout.len());
        assert_eq!(stderr, "");
    }
}

#[test]
fn several_senders_at_once_tear_none_of_their_messages() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&[
        "recv",
        &format!("{fifo}?persist=true"),
        "-n",
        "2400",
    ]));
    until("the FIFO is made", || dir.path("x").exists());
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let lines: String = (0..600)
                // Small ones, and some above the 4096 bytes that the kernel keeps in one piece.
                .map(|i| format!("{sender}:{i}:{}\n", "x".repeat(i * 37 % 6000)))
                .collect();
            start_with_input(&mut aqueduct(&["send", &fifo]), lines)
        })
        .collect();
    for send in senders {
        expect_text(send.finish(), 0);
    }
    let mut next = [0; 4];
    for line in expect_text(recv.finish(), 0).lines() {
        let mut parts = line.splitn(3, ':');
        let sender: usize = parts.next().unwrap().parse().unwrap();
        let i: usize = parts.next().unwrap().parse().unwrap();
        assert_eq!(i, next[sender], "in order, none missing");
        assert_eq!(parts.next().unwrap(), "x".repeat(i * 37 % 6000), "whole");
        next[sender] += 1;
    }
    assert_eq!(next, [600; 4]);
}

/// As logs are rotated, under a reader that stays.
#[test]
fn a_persistent_reader_goes_on_in_a_fifo_made_anew() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let persistent = format!("{fifo}?persist=true");
    let readers: [&[&str]; 3] = [
        &["recv", &persistent],
        &["serve", &fifo, "--", "cat"],
        &["relay", &persistent, "stdio:"],
    ];
    for args in readers {
        let reader = start(&mut aqueduct(args));
        until("the FIFO is made", || dir.path("x").exists());
        expect_text(run(&mut aqueduct(&["send", "-q", &fifo, "one"])), 0);
        let old = fs::metadata(dir.path("x")).unwrap().ino();
        fs::remove_file(dir.path("x")).unwrap();
        nix::unistd::mkfifo(&dir.path("x"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_ne!(fs::metadata(dir.path("x")).unwrap().ino(), old);
        expect_text(run(&mut aqueduct(&["send", "-q", &fifo, "two"])), 0);
        reader.printed("onetwo".len());
        reader.signal(Signal::SIGTERM);
        let (stdout, _) = expect(reader.finish(), 0);
        let stdout = String::from_utf8(stdout).unwrap();
        // A program prints its message, which has no newline.
        assert_eq!(stdout.replace('\n', ""), "onetwo", "{args:?}");
        fs::remove_file(dir.path("x")).unwrap();
    }
}

#[test]
fn a_reader_of_a_removed_fifo_ends_with_an_error() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    for args in [&["recv", &fifo][..], &["relay", &fifo, "stdio:"]] {
        let reader = start(&mut aqueduct(args));
        until_open(reader.pid(), &dir.path("x"));
        fs::remove_file(dir.path("x")).unwrap();
        let (stdout, stderr) = expect(reader.finish(), 1);
        assert_eq!(stdout, b"");
        assert!(stderr.contains("it was removed; open it again"), "{stderr}");
    }
}
