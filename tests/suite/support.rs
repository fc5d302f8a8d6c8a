//! What every test needs: a deadline, names of its own, second processes, and a look at what is left behind.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use tokio_test::task::Spawn;
use tracing::Dispatch;

/// How long any single wait in a test may take. Generous: it only ends a hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `future` to its end, or fails the test at the deadline.
pub(crate) async fn deadline<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("still waiting after {DEADLINE:?}"),
    }
}

/// Waits until the task is woken, which is not for it to poll.
pub(crate) async fn woken<F: Future>(task: &Spawn<F>) {
    deadline(async {
        while !task.is_woken() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A child process that is killed and reaped when the test lets go of it, however the test ends.
#[derive(Debug)]
pub(crate) struct Peer(pub(crate) Child);

impl Peer {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the peer starts"))
    }

    /// Sends `SIGKILL` and reaps.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits for the exit, polling, and kills the process at the deadline.
    pub(crate) async fn exit(&mut self) -> io::Result<std::process::ExitStatus> {
        let waited = deadline(async {
            loop {
                if let Some(status) = self.0.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command that runs function `role` of this test binary as a process of its own.
///
/// `role` is the path of a `#[test]` function that does nothing unless [`is_peer`] says so.
pub(crate) fn peer_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test binary has a path"));
    command
        .args([
            "--exact",
            role,
            "--nocapture",
            "--test-threads=1",
            "--quiet",
        ])
        .env("AQUEDUCT_TEST_PEER", role);
    command
}

/// Whether this process was started by [`peer_command`] to play `role`.
pub(crate) fn is_peer(role: &str) -> bool {
    std::env::var("AQUEDUCT_TEST_PEER").is_ok_and(|it| it == role)
}

/// Claims what the process of a role has inherited.
#[allow(unsafe_code)]
pub(crate) fn claim() {
    // SAFETY: the process plays one role, and neither the role nor the harness has opened anything
    // without `FD_CLOEXEC`.
    unsafe { aqueduct::inherited::claim() };
}

/// Runs the test of that name in a process of its own: for what other tests would see, and for what would
/// see them. While one starts a process that has a copy of every descriptor for a moment, so what was
/// closed is still open then.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if is_peer(test) {
        return body();
    }
    let output = peer_command(test).output().expect("it can be run again");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    // What it has counted, for who asked to see it.
    print!("{out}");
}

/// An example's program, which `cargo test` builds with the tests. It is built here where only this test
/// was asked for, and so it is not there or older than what it is made of.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test binary has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("it is in a directory's deps");
    let program = profile.join("examples").join(name);
    if !is_fresh(&program) {
        let profile = match profile.file_name() {
            Some(it) if it != "debug" => it,
            _ => OsStr::new("dev"),
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", name, "--profile"]);
        let built = cargo.arg(profile).status();
        assert!(built.expect("cargo runs").success());
    }
    Command::new(program)
}

/// Whether `program` is newer than every file that Cargo notes it as made of, in `program.d`.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|it| it.modified());
    let (Ok(built), Ok(made_of)) = (
        changed(program),
        std::fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    // A space inside a path is escaped, and cuts it here: what then cannot be found is not fresh.
    let mut sources = made_of.split_whitespace().skip(1).map(Path::new);
    sources.all(|it| changed(it).is_ok_and(|changed| changed <= built))
}

/// Compiles one C file with the system's compiler into `dir` and returns the program's path.
pub(crate) fn compile_c(dir: &Path, name: &str, source: &str) -> PathBuf {
    let file = dir.join(format!("{name}.c"));
    std::fs::write(&file, source).expect("the test directory is writable");
    let program = dir.join(name);
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-o"])
        .arg(&program)
        .arg(&file)
        .status()
        .expect("a C compiler is installed");
    assert!(status.success(), "{name}.c compiles");
    program
}

/// What `tracing` printed, line by line, for a subscriber of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Runs `body` with everything that it logs on this thread, down to `TRACE`, in the log.
    pub(crate) fn record<R>(body: impl FnOnce() -> R) -> (R, Vec<String>) {
        let (log, recording) = Self::start();
        let output = body();
        drop(recording);
        let text = log.text();
        let lines = text.lines().filter(|it| it.contains("aqueduct::"));
        (output, lines.map(ToOwned::to_owned).collect())
    }

    /// Has everything that is logged on this thread, down to `TRACE`, in the log until the guard is
    /// dropped.
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        // As long as there is but one subscriber in the process, whether a line of code is heard at all
        // is decided by the thread that first comes to it, which may be another test's.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| {
            let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
            all.with_writer(io::sink).into()
        });
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer({
                let log = log.clone();
                move || log.clone()
            })
            .with_ansi(false)
            .without_time()
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// All that was logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("UTF-8")
    }

    /// Waits until `what` is logged.
    pub(crate) async fn until(&self, what: &str) {
        let logged = async {
            while !self.text().contains(what) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        deadline(logged).await;
    }
}

impl io::Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bit in the mode of what the library makes with a name: `S_ISVTX`.
pub(crate) const MARK: u32 = 0o1000;

/// Whether `O_NONBLOCK` is set on a descriptor's open file.
pub(crate) fn is_nonblocking(fd: impl AsFd) -> io::Result<bool> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    Ok(flags.contains(OFlag::O_NONBLOCK))
}
