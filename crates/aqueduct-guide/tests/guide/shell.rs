//! [`Shell`]: runs commands one after the other, on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use crate::place::Place;

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long after it background jobs may take to print the rest.
const REST: Duration = Duration::from_secs(20);

/// How long nothing more has been printed when outputs are recorded: once if they are right, or several times.
const QUIET: Duration = Duration::from_millis(500);

/// What the shell prints after each command.
const DONE: char = '\u{1}';

pub(crate) struct Shell {
    shell: Child,
    commands: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// Whether a job was started in the background.
    background: bool,
}

impl Shell {
    pub(crate) fn start(place: &Place) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A terminal, since C programs print each line at once only there.
        let pty = openpty(&size, None).unwrap();
        let mut settings = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
        let mut shell = Command::new("sh")
            .current_dir(place.dir())
            .env("PATH", place.path())
            .env("LC_ALL", "C")
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave)
            // In a group with all that it starts, to be ended together.
            .process_group(0)
            .spawn()
            .unwrap();
        let commands = shell.stdin.take().unwrap();
        let (sender, output) = channel();
        let mut master = File::from(pty.master);
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = master.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            shell,
            commands,
            output,
            background: false,
        }
    }

    /// Runs a command until what was printed is right: `is_right(output, whether in any order)`. Returns what
    /// was printed instead.
    pub(crate) fn run(
        &mut self,
        command: &str,
        is_right: impl Fn(&str, bool) -> bool,
    ) -> Result<(), String> {
        self.start_command(command);
        let mut deadline = Instant::now() + DEADLINE;
        let mut output = Vec::new();
        let mut done = false;
        loop {
            let text = String::from_utf8_lossy(&output).replace(DONE, "");
            if !done && output.contains(&(DONE as u8)) {
                done = true;
                deadline = Instant::now() + REST;
            }
            if done && is_right(&text, self.background) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => output.extend(more),
                Err(_) if done => return Err(text),
                Err(_) => return Err(format!("{text}(and it has not ended)\n")),
            }
        }
    }

    /// Runs a command and returns what was printed: sooner if it is right.
    pub(crate) fn record(
        &mut self,
        command: &str,
        is_right: impl Fn(&str, bool) -> bool,
    ) -> String {
        self.start_command(command);
        let mut output = Vec::new();
        let mut quiet = 0;
        loop {
            let text = String::from_utf8_lossy(&output).replace(DONE, "");
            match self.output.recv_timeout(QUIET) {
                Ok(more) => {
                    output.extend(more);
                    quiet = 0;
                }
                Err(RecvTimeoutError::Timeout) => quiet += 1,
                Err(RecvTimeoutError::Disconnected) => return text,
            }
            let done = output.contains(&(DONE as u8));
            if done && (quiet > 5 || quiet > 0 && is_right(&text, self.background)) {
                return text;
            }
        }
    }

    fn start_command(&mut self, command: &str) {
        self.background |= command.trim_end().ends_with('&');
        // Keeps its exit status for `$?`.
        let text = format!("{{\n{command}\n}} < /dev/null\ns=$?; printf '\\001'; (exit $s)\n");
        self.commands.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The group may have ended.
        let _ = killpg(Pid::from_raw(self.shell.id() as i32), Signal::SIGKILL);
        let _ = self.shell.wait();
    }
}
