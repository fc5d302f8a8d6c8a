//! Processes with a deadline, and a directory of one's own.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long any single wait may take. Generous: it only ends a hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The command under test, with nothing of the environment that would change what it prints.
pub(crate) fn aqueduct(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    command.args(args).env_remove("RUST_LOG");
    command
}

/// A directory of this test's own, with addresses of FIFOs in it.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn fifo(&self, name: &str) -> String {
        format!("fifo:{}", self.path(name).display())
    }
}

/// A process that runs, and is killed and reaped however the test ends.
pub(crate) struct Running {
    child: Child,
    out: Option<thread::JoinHandle<Vec<u8>>>,
    /// What of standard output has come so far.
    printed: Arc<Mutex<Vec<u8>>>,
    err: Option<thread::JoinHandle<Vec<u8>>>,
    /// What of standard error has come so far.
    said: Arc<Mutex<Vec<u8>>>,
}

/// Starts a process whose output is collected.
pub(crate) fn start(command: &mut Command) -> Running {
    start_at(command, Stdio::piped(), Stdio::piped())
}

/// Starts a process whose output goes elsewhere; what goes into pipes is collected.
pub(crate) fn start_at(command: &mut Command, stdout: Stdio, stderr: Stdio) -> Running {
    command.stdout(stdout).stderr(stderr);
    let mut child = command.spawn().expect("the process starts");
    let (printed, said) = (Arc::default(), Arc::default());
    let out = child.stdout.take();
    let out = out.map(|it| follow(it, Arc::clone(&printed)));
    let err = child.stderr.take().map(|it| follow(it, Arc::clone(&said)));
    Running {
        child,
        out,
        printed,
        err,
        said,
    }
}

/// Starts a process that gets `input` on its standard input, and then its end.
pub(crate) fn start_with_input(command: &mut Command, input: impl AsRef<[u8]>) -> Running {
    let mut running = start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin();
    let input = input.as_ref().to_vec();
    // On a thread: the process may not read it all.
    thread::spawn(move || stdin.write_all(&input));
    running
}

/// Runs a process to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    start(command.stdin(Stdio::null())).finish()
}

impl Running {
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is a pipe")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("the process is still there");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("it can be waited for")
            .is_none()
    }

    /// Waits until a word that begins so stands on standard error, and gives it.
    pub(crate) fn told(&self, beginning: &str) -> String {
        let mut told = None;
        until(&format!("it says {beginning:?}"), || {
            let said = self.said.lock().expect("the reading thread does not panic");
            let said = String::from_utf8_lossy(&said);
            // Whole lines alone: the last word may still be coming.
            let lines = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
            told = lines.find(beginning).map(|at| {
                let (length, rest) = (beginning.len(), &lines[at..]);
                let end = rest[length..].find(char::is_whitespace);
                rest[..end.map_or(rest.len(), |end| length + end)].to_owned()
            });
            told.is_some()
        });
        told.unwrap_or_default()
    }

    /// Waits until so many bytes stand on standard output.
    pub(crate) fn printed(&self, bytes: usize) {
        until(&format!("it prints {bytes} bytes"), || {
            let printed = self
                .printed
                .lock()
                .expect("the reading thread does not panic");
            printed.len() >= bytes
        });
    }

    /// Waits for the end, for a limited time.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            if start.elapsed() > DEADLINE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let err = self.err.take().map(join).unwrap_or_default();
                panic!("it still runs: {}", String::from_utf8_lossy(&err));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end and gives what was printed.
    pub(crate) fn finish(mut self) -> Output {
        Output {
            status: self.wait(),
            stdout: self.out.take().map(join).unwrap_or_default(),
            stderr: self.err.take().map(join).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks how it ended and gives what it printed on standard output and standard error.
pub(crate) fn expect(output: Output, code: i32) -> (Vec<u8>, String) {
    let stderr = String::from_utf8(output.stderr).expect("it complains in UTF-8");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout: {out}\nstderr: {stderr}"
    );
    (output.stdout, stderr)
}

/// As [`expect`], for text and with nothing on standard error.
pub(crate) fn expect_text(output: Output, code: i32) -> String {
    let (stdout, stderr) = expect(output, code);
    assert_eq!(stderr, "");
    String::from_utf8(stdout).expect("it prints UTF-8")
}

/// Waits until `happened` says so: for events that only /proc or the file system tells of.
pub(crate) fn until(what: &str, happened: impl FnMut() -> bool) {
    until_within(DEADLINE, what, happened);
}

/// As [`until`], for what takes its time.
pub(crate) fn until_within(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < limit, "still waiting until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a Unix socket takes connections, or datagrams: its path is there before that, between
/// bind(2) and listen(2).
pub(crate) fn until_bound(path: &Path) {
    let path = path.to_str().expect("the path is text");
    until("the socket is bound", || {
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        sockets.lines().any(|line| {
            // Num RefCount Protocol Flags Type St Inode Path, `unix_seq_show` in net/unix/af_unix.c.
            let fields: Vec<_> = line.split_whitespace().collect();
            let takes = |it: &[&str]| it[3] == "00010000" || it[4] == "0002";
            fields.len() == 8 && fields[7] == path && takes(&fields)
        })
    });
}

/// Waits until process `pid` has `path` open.
pub(crate) fn until_open(pid: u32, path: &Path) {
    until("the file is open", || {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        let mut links = fds
            .flatten()
            .filter_map(|it| std::fs::read_link(it.path()).ok());
        links.any(|it| it == path)
    });
}

/// Reads lines of a process as they come, each with a deadline.
pub(crate) fn read_with_deadline(mut from: impl Read + Send + 'static, n: usize) -> Vec<u8> {
    let (tx, rx) = channel();
    thread::spawn(move || {
        let mut buf = vec![0; n];
        let read = from.read_exact(&mut buf).map(|()| buf);
        let _ = tx.send(read);
    });
    let read = rx.recv_timeout(DEADLINE).expect("it comes in time");
    read.expect("as many bytes come")
}

/// Compiles a C program into `dir`.
pub(crate) fn compile_c(dir: &Dir, name: &str, source: &str) -> PathBuf {
    let file = dir.path(&format!("{name}.c"));
    std::fs::write(&file, source).expect("the directory is writable");
    let program = dir.path(name);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-o"]).arg(&program).arg(&file);
    assert!(cc.status().expect("a C compiler is installed").success());
    program
}

/// Reads all that comes, to be looked at meanwhile.
fn follow(
    mut from: impl Read + Send + 'static,
    said: Arc<Mutex<Vec<u8>>>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut part = [0; 4096];
        loop {
            match from.read(&mut part) {
                Ok(0) | Err(_) => break,
                Ok(n) => said.lock().expect("nobody panics").extend(&part[..n]),
            }
        }
        said.lock().expect("nobody panics").clone()
    })
}

fn join(thread: thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    thread.join().expect("the reading thread does not panic")
}
