//! A process with queues and limits of its own, which no other test disturbs.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{Uid, geteuid, setresuid};

use crate::support::{Dir, start};

const ROLE: &str = "AQUEDUCT_TEST_ALONE";

/// Whether the test goes on here: in a process of its own, as a user who has no queues, in an IPC
/// namespace without any. Elsewhere it starts that process, and the test is what it says.
///
/// `test` is the path of the calling test. Without root it is left out, and says so.
pub(crate) fn alone(test: &str, mounted: bool) -> bool {
    if std::env::var(ROLE).is_ok_and(|it| it == test) {
        enter(mounted);
        return true;
    }
    if !geteuid().is_root() {
        println!("SKIPPED: {test} needs root");
        return false;
    }
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, test)
        .stdin(Stdio::null());
    let output = start(&mut command).finish();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "there is such a test: {text}");
    false
}

fn enter(mounted: bool) {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS).expect("root may");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    // A /dev of its own, with what every process needs: on the true one there may be no directory
    // to mount the queues on, and one made there would stay.
    let dir = Dir::new();
    let dev = dir.path("dev");
    fs::create_dir(&dev).unwrap();
    mount(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    for name in ["null", "full"] {
        let node = dev.join(name);
        fs::write(&node, "").unwrap();
        let from = format!("/dev/{name}");
        mount(Some(from.as_str()), &node, NONE, MsFlags::MS_BIND, NONE).unwrap();
    }
    if mounted {
        let queues = dev.join("mqueue");
        fs::create_dir(&queues).unwrap();
        mount(
            Some("mqueue"),
            &queues,
            Some("mqueue"),
            MsFlags::empty(),
            NONE,
        )
        .unwrap();
    }
    mount(Some(&dev), "/dev", NONE, MsFlags::MS_MOVE, NONE).unwrap();
    drop(dir);
    // The limit on bytes is the user's, in all namespaces together.
    let uid = Uid::from_raw(200_000 + std::process::id());
    // The program may lie where only root may look.
    let program = fs::File::open(env!("CARGO_BIN_EXE_aqueduct")).unwrap();
    setresuid(uid, uid, uid).unwrap();
    // Its own /proc/self/fd is root's without this.
    prctl::set_dumpable(true).unwrap();
    PROGRAM.set(program).expect("once in a process");
}

static PROGRAM: std::sync::OnceLock<fs::File> = std::sync::OnceLock::new();

/// As [`crate::support::aqueduct`], in such a process.
pub(crate) fn aqueduct(args: &[&str]) -> Command {
    let program = PROGRAM.get().expect("it is alone").as_raw_fd();
    let mut command = Command::new(format!("/proc/self/fd/{program}"));
    command.args(args).env_remove("RUST_LOG");
    command
}
