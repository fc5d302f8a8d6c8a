//! A terminal to type at, and what stands on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::support::{DEADLINE, Running, start_at, until};

const COLUMNS: u16 = 80;

/// A process whose controlling terminal, input and output this is.
pub(crate) struct Terminal {
    keyboard: File,
    /// Its other side, for its mode.
    line: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
    gone: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
    process: Running,
}

impl Terminal {
    /// Starts a command of this project in a session of its own.
    pub(crate) fn start(command: &Command) -> Self {
        let (keyboard, line) = pair();
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program());
        session.args(command.get_args()).env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        let slave = || line.try_clone().expect("a descriptor is free");
        // It is collected from the terminal, not from pipes.
        session.stdin(slave());
        let process = start_at(&mut session, slave().into(), slave().into());
        let written = Arc::new(Mutex::new(Vec::new()));
        let screen = keyboard.try_clone().expect("a descriptor is free");
        let gone = Arc::new(AtomicBool::new(false));
        let (noted, ended) = (Arc::clone(&written), Arc::clone(&gone));
        let reading = thread::spawn(move || follow(screen, &noted, &ended));
        Self {
            keyboard,
            line,
            written,
            gone,
            reading: Some(reading),
            process,
        }
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("it is open");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// All that was written to it.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.written.lock().expect("nobody panics").clone()
    }

    /// Waits until this stands on it, in as many lines, with the cursor at `_`.
    pub(crate) fn shows(&self, expected: &str) {
        let mut shown = String::new();
        until_or(
            || {
                shown = screen(&self.written(), usize::from(COLUMNS));
                shown == expected
            },
            &|| {
                format!(
                    "expected:\n{expected}\nshown:\n{}",
                    screen(&self.written(), 80)
                )
            },
        );
    }

    /// Waits until this is part of what was written.
    pub(crate) fn contains(&self, part: &str) {
        let written = || String::from_utf8_lossy(&self.written()).into_owned();
        until_or(|| written().contains(part), &|| {
            format!("no {part:?} in {:?}", written())
        });
    }

    /// Waits until more than so many bytes were written.
    pub(crate) fn writes_more_than(&self, bytes: usize) {
        until("more is written", || self.written().len() > bytes);
    }

    /// Gives it another width.
    pub(crate) fn resize(&self, columns: u16) {
        resize(&self.line, columns);
    }

    /// Whether it shows what is typed by itself, and gives it line by line.
    pub(crate) fn is_as_usual(&self) -> bool {
        let mode = tcgetattr(self.line.as_fd()).expect("it is a terminal");
        mode.local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Goes away, as a window that is closed; what is left is the process.
    pub(crate) fn hang_up(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            reading.join().expect("it does not panic");
        }
        // It is the last descriptor of that side.
        self.keyboard = File::open("/dev/null").expect("there is one");
    }
}

/// Both sides of a terminal, which no other process inherits: it would keep it from hanging up.
fn pair() -> (File, OwnedFd) {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC);
    let ours = ours.expect("there is a terminal to be had");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let name = ptsname_r(&ours).expect("it has a name");
    let mut line = File::options();
    line.read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits());
    let line = OwnedFd::from(line.open(name).expect("it is there"));
    resize(&line, COLUMNS);
    (File::from(OwnedFd::from(ours)), line)
}

fn resize(line: &OwnedFd, columns: u16) {
    let mut stty = Command::new("stty");
    stty.args(["rows", "24", "cols", &columns.to_string()]);
    stty.stdin(line.try_clone().expect("a descriptor is free"));
    assert!(stty.status().expect("there is stty").success());
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Notes what is written, until the terminal is gone.
fn follow(mut screen: File, noted: &Mutex<Vec<u8>>, gone: &AtomicBool) {
    let mut part = [0; 4096];
    while !gone.load(Ordering::Relaxed) {
        let mut polled = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(5_u8)) != Ok(1) {
            continue;
        }
        // The end of a terminal is an error, EIO.
        let Ok(n @ 1..) = screen.read(&mut part) else {
            break;
        };
        noted.lock().expect("nobody panics").extend(&part[..n]);
    }
}

fn until_or(mut happened: impl FnMut() -> bool, otherwise: &dyn Fn() -> String) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < DEADLINE, "{}", otherwise());
        thread::sleep(Duration::from_millis(2));
    }
}

/// What stands on a terminal after this was written to it; the cursor is `_`, empty lines at the end
/// are left out. Characters are one column wide.
pub(crate) fn screen(written: &[u8], columns: usize) -> String {
    let text = String::from_utf8_lossy(written);
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let rest = chars.as_str();
                let end = rest.find(|c: char| c.is_ascii_alphabetic());
                // The rest of it is still on its way.
                let Some(end) = end else { break };
                let sequence = &rest[..=end];
                let number = sequence[1..end].parse();
                match (&sequence[..1], &sequence[end..]) {
                    ("[", "A") => row = row.saturating_sub(number.unwrap_or(1)),
                    ("[", "C") => column = (column + number.unwrap_or(1)).min(columns - 1),
                    ("[", "J") if number.is_err() => {
                        rows.truncate(row + 1);
                        rows[row].truncate(column);
                    }
                    _ => panic!("an unexpected sequence: {sequence:?}"),
                }
                chars = rest[end + 1..].chars();
            }
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                if rows.len() <= row {
                    rows.resize(row + 1, Vec::new());
                }
                if rows[row].len() <= column {
                    rows[row].resize(column + 1, ' ');
                }
                rows[row][column] = c;
                column += 1;
            }
        }
        if rows.len() <= row {
            rows.resize(row + 1, Vec::new());
        }
    }
    let column = column.min(columns - 1);
    if rows[row].len() <= column {
        rows[row].resize(column + 1, ' ');
    }
    rows[row][column] = '_';
    let lines = rows
        .into_iter()
        .map(|it| it.into_iter().collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}
