//! `aqueduct talk` at a terminal.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;

use crate::pty::Terminal;
use crate::support::{DEADLINE, Dir, aqueduct, start};
use crate::talk::unix;

/// A talk at a terminal, and the peer at the other end.
struct Talk {
    terminal: Terminal,
    peer: UnixStream,
    // The socket is in it.
    _dir: Dir,
}

fn talk(args: &[&str]) -> Talk {
    let dir = Dir::new();
    let (tell, told) = channel();
    let (address, thread) = unix(&dir, move |stream| tell.send(stream).unwrap());
    let mut command = aqueduct(&["talk", &address]);
    let terminal = Terminal::start(command.args(args));
    let peer = told.recv_timeout(DEADLINE).unwrap();
    thread.join().unwrap();
    // What is typed before that is shown by the terminal itself.
    terminal.shows("> _");
    Talk {
        terminal,
        peer,
        _dir: dir,
    }
}

impl Talk {
    fn hears(&mut self, expected: &str) {
        let mut heard = vec![0; expected.len()];
        self.peer.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    fn hears_the_end(&mut self) {
        let mut rest = String::new();
        self.peer.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }

    fn says(&mut self, text: &str) {
        self.peer.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for its end; the terminal is as it was.
    fn ends(&mut self) {
        let status = self.terminal.wait();
        assert!(status.success(), "{status}");
        assert!(self.terminal.is_as_usual());
    }
}

#[test]
fn a_typed_line_is_sent_and_stays_above_the_answer() {
    let mut talk = talk(&[]);
    talk.terminal.keys("PING");
    talk.terminal.shows("> PING_");
    talk.terminal.keys("\r");
    talk.hears("PING\n");
    talk.says("+PONG\n");
    talk.terminal.shows("> PING\n+PONG\n> _");
    talk.terminal.keys("\x04");
    talk.hears_the_end();
    talk.says("bye\n");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
    talk.terminal.shows("> PING\n+PONG\nbye\n_");
    let written = talk.terminal.written();
    let colored = |at: &[u8]| at.starts_with(b"\x1b[") && at.ends_with(b"m");
    assert!(!written.windows(4).any(colored), "no colour is forced");
}

#[test]
fn what_the_peer_says_is_shown_above_what_is_typed() {
    let mut talk = talk(&[]);
    talk.terminal.keys("half a li");
    talk.terminal.shows("> half a li_");
    talk.says("one\ntwo\n");
    talk.terminal.shows("one\ntwo\n> half a li_");
    talk.terminal.keys("ne\r");
    talk.hears("half a line\n");
    talk.says("three\n");
    talk.terminal.shows("one\ntwo\n> half a line\nthree\n> _");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}

#[test]
fn a_prompt_of_the_peer_stands_before_what_is_typed() {
    let mut talk = talk(&[]);
    talk.says("welcome\nlogin: ");
    talk.terminal.shows("welcome\nlogin: _");
    talk.terminal.keys("me\r");
    talk.hears("me\n");
    talk.terminal.shows("welcome\nlogin: me\n> _");
    talk.says("a prompt without end");
    talk.terminal.contains("without end");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
    talk.terminal
        .contains("closed the connection\r\na prompt without end");
    assert!(
        talk.terminal
            .written()
            .ends_with(b"a prompt without end\r\n")
    );
}

#[test]
fn a_long_line_wraps_at_80_columns_and_is_drawn_anew() {
    let mut talk = talk(&[]);
    let long = "0123456789".repeat(10);
    talk.terminal.keys(&long);
    let (first, second) = long.split_at(78);
    talk.terminal.shows(&format!("> {first}\n{second}_"));
    talk.says("a word\n");
    talk.terminal
        .shows(&format!("a word\n> {first}\n{second}_"));
    // Its first column, and a word before it.
    talk.terminal.keys("\x01see \x05!\r");
    talk.hears(&format!("see {long}!\n"));
    let line = format!("> see {long}!");
    let (first, second) = line.split_at(80);
    talk.terminal
        .shows(&format!("a word\n{first}\n{second}\n> _"));
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}

#[test]
fn earlier_lines_come_back_and_are_edited() {
    let mut talk = talk(&["--crlf"]);
    talk.terminal.keys("SET a 1\rGET a\r");
    talk.hears("SET a 1\r\nGET a\r\n");
    talk.says("+OK\r\n$1\r\n");
    talk.terminal.shows("> SET a 1\n> GET a\n+OK\n$1\n> _");
    talk.terminal.keys("\x1b[A\x1b[A\x7f2");
    talk.terminal
        .shows("> SET a 1\n> GET a\n+OK\n$1\n> SET a 2_");
    talk.terminal.keys("\r");
    talk.hears("SET a 2\r\n");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}

#[test]
fn ctrl_c_sends_what_was_entered_and_ends_with_0() {
    let mut talk = talk(&[]);
    talk.terminal.keys("entered\rbegun");
    talk.terminal.shows("> entered\n> begun_");
    talk.terminal.keys("\x03");
    talk.hears("entered\n");
    talk.hears_the_end();
    talk.ends();
    talk.terminal.shows("> entered\n> begun\n_");
}

#[test]
fn a_terminal_that_hangs_up_ends_it() {
    for ignored in [false, true] {
        let dir = Dir::new();
        let (tell, told) = channel();
        let (address, thread) = unix(&dir, move |stream| tell.send(stream).unwrap());
        let program = env!("CARGO_BIN_EXE_aqueduct");
        // As nohup(1) does, but for the redirection.
        let trap = if ignored { "trap '' HUP; " } else { "" };
        let script = format!("{trap}exec {program} talk {address}");
        let mut terminal = Terminal::start(Command::new("sh").args(["-c", &script]));
        let mut peer = told.recv_timeout(DEADLINE).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        terminal.shows("> _");
        terminal.keys("entered\r");
        terminal.shows("> entered\n> _");
        terminal.hang_up();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "entered\n");
        drop(peer);
        // Where the signal is ignored, it is the end of input, and nothing can be shown any more.
        let status = terminal.wait();
        assert!(status.success(), "{ignored}: {status}");
        thread.join().unwrap();
    }
}

/// As with `talk ADDRESS | head`.
#[test]
fn a_closed_output_ends_it_at_a_terminal_quietly() {
    let dir = Dir::new();
    let (tell, told) = channel();
    let (address, thread) = unix(&dir, move |stream| tell.send(stream).unwrap());
    let program = env!("CARGO_BIN_EXE_aqueduct");
    let script = format!("{program} talk {address} | head -n 1; echo ${{PIPESTATUS[0]}}");
    let mut terminal = Terminal::start(Command::new("bash").args(["-c", &script]));
    let mut peer = told.recv_timeout(DEADLINE).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.write_all(b"one\n").unwrap();
    // Nothing is typed, and nothing more is said.
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "");
    let status = terminal.wait();
    assert!(status.success(), "{status}");
    terminal.shows("one\n0\n_");
    assert!(terminal.is_as_usual());
    thread.join().unwrap();
}

#[test]
fn a_peer_that_is_killed_ends_it_in_the_middle_of_a_line() {
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("x").display());
    let mut serve = start(aqueduct(&["serve", &address]).stdin(Stdio::null()));
    serve.told("serving ");
    let mut terminal = Terminal::start(&aqueduct(&["talk", &address]));
    terminal.shows("> _");
    terminal.keys("echo\r");
    terminal.shows("> echo\necho\n> _");
    terminal.keys("half a li");
    terminal.shows("> echo\necho\n> half a li_");
    serve.signal(Signal::SIGKILL);
    serve.wait();
    let status = terminal.wait();
    assert!(status.success(), "{status}");
    assert!(terminal.is_as_usual());
    let expected =
        format!("> echo\necho\naqueduct: {address} closed the connection\n> half a li\n_");
    terminal.shows(&expected);
}

#[test]
fn a_peer_that_ends_its_side_is_told_of_and_still_hears() {
    let mut talk = talk(&[]);
    talk.says("that is all\n");
    talk.peer.shutdown(Shutdown::Write).unwrap();
    talk.terminal
        .contains("has stopped sending; Ctrl-D ends the conversation");
    talk.terminal.keys("one more thing\r\x04");
    talk.hears("one more thing\n");
    talk.hears_the_end();
    talk.ends();
}

#[test]
fn what_would_steer_the_terminal_is_escaped() {
    let mut talk = talk(&[]);
    talk.says("a\x1b[31mb\rc\u{202e}\n");
    talk.peer.write_all(b"\xff\xe2\x82").unwrap();
    talk.terminal.shows("a\\u{1b}[31mb\\rc\\u{202e}\n\\xff_");
    talk.peer.write_all(b"\xac\n").unwrap();
    talk.terminal
        .shows("a\\u{1b}[31mb\\rc\\u{202e}\n\\xff\u{20ac}\n> _");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}

#[test]
fn a_line_that_does_not_fit_is_refused_and_the_talk_goes_on() {
    let mut talk = talk(&["--frame", "length", "--max-frame", "4", "--output", "hex"]);
    talk.terminal.keys("hello\r");
    talk.terminal.contains("the line has 5 bytes");
    talk.terminal.keys("ok\r");
    talk.hears("\0\0\0\x02ok");
    talk.says("\0\0\0\x01x");
    talk.terminal.contains("78");
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_is_used_line_by_line() {
    let dir = Dir::new();
    let (tell, told) = channel();
    let (address, thread) = unix(&dir, move |stream| tell.send(stream).unwrap());
    let mut command = aqueduct(&["talk", &address]);
    let mut terminal = Terminal::start(command.env("TERM", "dumb"));
    let mut peer = told.recv_timeout(DEADLINE).unwrap();
    terminal.keys("hello\r");
    let mut heard = [0; 6];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello\n");
    assert!(terminal.is_as_usual());
    peer.write_all(b"good day\n").unwrap();
    terminal.shows("hello\ngood day\n_");
    drop(peer);
    assert!(terminal.wait().success());
    thread.join().unwrap();
}

#[test]
fn it_is_redrawn_on_return_and_when_the_width_changes() {
    let mut talk = talk(&[]);
    talk.terminal.keys("hello");
    talk.terminal.shows("> hello_");
    let before = talk.terminal.written().len();
    talk.terminal.resize(40);
    talk.terminal.writes_more_than(before);
    talk.terminal.keys(&"x".repeat(40));
    talk.terminal.contains("\r\x1b[7C");
    let before = talk.terminal.written().len();
    talk.terminal.signal(Signal::SIGSTOP);
    talk.terminal.signal(Signal::SIGCONT);
    talk.terminal.writes_more_than(before);
    talk.terminal.keys("\r");
    talk.hears(&format!("hello{}\n", "x".repeat(40)));
    drop(talk.peer.shutdown(Shutdown::Both));
    talk.ends();
}
