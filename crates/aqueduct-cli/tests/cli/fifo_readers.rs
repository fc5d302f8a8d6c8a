//! One command at a time reads a FIFO.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{
    Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input, until, until_open,
};

/// Whether a reader has put up its sign, a record lock on the second byte.
fn has_reader(path: &Path) -> bool {
    let Ok(file) = open_to_read(path) else {
        return false;
    };
    let mut lock = sign(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
    lock.l_type != libc::F_UNLCK as i16
}

fn open_to_read(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path)
}

fn sign(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 1,
        l_len: 1,
        l_pid: 0,
    }
}

#[test]
fn a_second_reader_of_a_fifo_is_refused_and_takes_nothing() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let persist = format!("{fifo}?persist=true");
    for (first, second) in [
        (["recv", &fifo], ["recv", &persist]),
        (["recv", &persist], ["serve", &fifo]),
        (["serve", &fifo], ["recv", &fifo]),
    ] {
        let reader = start(aqueduct(&first).stdin(Stdio::null()));
        until("its sign is up", || has_reader(&dir.path("x")));
        let (stdout, stderr) = expect(run(&mut aqueduct(&second)), 1);
        let by = format!("read by another aqueduct (process {})", reader.pid());
        assert!(stdout.is_empty() && stderr.contains(&by), "{stderr}");
        let input: String = (0..5000).map(|i| format!("{i}\n")).collect();
        let send = start_with_input(&mut aqueduct(&["send", &fifo]), &input);
        expect_text(send.finish(), 0);
        if first[1].contains("persist") || first[0] == "serve" {
            reader.signal(Signal::SIGTERM);
        }
        assert_eq!(expect(reader.finish(), 0).0, input.as_bytes());
    }
}

#[test]
fn of_two_readers_that_start_at_once_at_most_one_stays() {
    let dir = Dir::new();
    for i in 0..10 {
        let fifo = dir.fifo(&i.to_string());
        // One that is left alone after the other has ended gives up.
        let recv = ["recv", &fifo, "-q", "--timeout", "2s"];
        let readers = [(); 2].map(|()| start(&mut aqueduct(&recv)));
        let input: String = (0..500).map(|i| format!("{i}\n")).collect();
        let mut send = aqueduct(&["send", &fifo, "-q"]);
        let send = start_with_input(&mut send, &input);
        let outputs = readers.map(Running::finish);
        // Both may have made way for each other, on a busy machine: then nothing was taken.
        let [one, other] = outputs.map(|it| String::from_utf8(it.stdout).unwrap());
        assert!(one.is_empty() || other.is_empty(), "{one}\n{other}");
        let all = one + &other;
        assert!(all.is_empty() || all == input, "{all}");
        drop(send);
    }
}

#[test]
fn a_reader_is_the_only_one_of_a_fifo_made_anew() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let persistent = format!("{fifo}?persist=true");
    let readers: [&[&str]; 3] = [
        &["recv", &persistent],
        &["serve", &fifo, "--", "cat"],
        &["relay", &persistent, "stdio:"],
    ];
    for args in readers {
        let reader = start(aqueduct(args).stdin(Stdio::null()));
        until_open(reader.pid(), &dir.path("x"));
        fs::remove_file(dir.path("x")).unwrap();
        mkfifo(&dir.path("x"), Mode::S_IRWXU).unwrap();
        // What it had open before has no name any more.
        until_open(reader.pid(), &dir.path("x"));
        until("its sign is up", || has_reader(&dir.path("x")));
        let second = run(&mut aqueduct(&["recv", &fifo, "--timeout", "2s"]));
        let (_, stderr) = expect(second, 1);
        let by = format!("read by another aqueduct (process {})", reader.pid());
        assert!(stderr.contains(&by), "{args:?}: {stderr}");
        drop(reader);
        fs::remove_file(dir.path("x")).unwrap();
    }
}

#[test]
fn a_reader_ends_if_the_fifo_made_anew_has_another() {
    let dir = Dir::new();
    let persistent = dir.fifo("x") + "?persist=true";
    let serve = dir.fifo("x");
    let readers: [&[&str]; 3] = [
        &["recv", &persistent],
        &["serve", &serve, "--", "cat"],
        &["relay", &persistent, "stdio:"],
    ];
    for args in readers {
        let reader = start(aqueduct(args).stdin(Stdio::null()));
        until_open(reader.pid(), &dir.path("x"));
        // Of a program of somebody's that reads it by the library.
        mkfifo(&dir.path("new"), Mode::S_IRWXU).unwrap();
        let other = open_to_read(&dir.path("new")).unwrap();
        fcntl(&other, FcntlArg::F_OFD_SETLK(&sign(libc::F_RDLCK))).unwrap();
        fs::rename(dir.path("new"), dir.path("x")).unwrap();
        let (stdout, stderr) = expect(reader.finish(), 1);
        assert_eq!(stdout, b"");
        let why = "another receiver reads it";
        assert!(stderr.contains(why), "{args:?}: {stderr}");
        fs::remove_file(dir.path("x")).unwrap();
    }
}
