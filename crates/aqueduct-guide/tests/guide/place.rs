//! [`Place`]: where the commands of a chapter run, and what they find there.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, fs, iter};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::chapter::Chapter;

const PROGRAMS: &str = env!("CARGO_BIN_EXE_guide");

/// Names in the whole system that the chapters use: of queues, and TCP ports.
const QUEUES: [&str; 5] = ["/jobs", "/failed", "/readings", "/requests", "/replies"];
const PORTS: [&str; 2] = ["7000", "7001"];

/// A directory with the sources of all programs, and those in Rust as Cargo leaves them in `target/debug`.
pub(crate) struct Place {
    dir: TempDir,
    names: Vec<(String, String)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("guide-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let debug = dir.path().join("target/debug");
        fs::create_dir_all(&debug).unwrap();
        let listed = Command::new(PROGRAMS).output().unwrap().stdout;
        for name in String::from_utf8(listed).unwrap().lines() {
            fs::hard_link(PROGRAMS, debug.join(name)).unwrap();
        }
        for (name, text) in Chapter::all().flat_map(|it| it.programs()) {
            if !name.ends_with(".rs") {
                fs::write(dir.path().join(name), text).unwrap();
            }
        }
        // The Rust programs are built already.
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/true", bin.join("cargo")).unwrap();

        let mut names: Vec<_> = PORTS
            .iter()
            .zip(free_ports())
            .map(|(it, port)| ((*it).to_owned(), port.to_string()))
            .collect();
        let own = dir.path().file_name().unwrap().to_str().unwrap();
        names.extend(QUEUES.map(|it| (it.to_owned(), format!("{it}-{own}"))));
        Self { dir, names }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the chapter says, with names of our own.
    pub(crate) fn real(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (printed, real)| {
                // Not the end of a path.
                [" ", ":", "\t"].iter().fold(text, |text, before| {
                    text.replace(&format!("{before}{printed}"), &format!("{before}{real}"))
                })
            })
    }

    /// What was printed, with the chapter's names.
    pub(crate) fn printed(&self, text: &str) -> String {
        let text = text
            .replace(self.dir().to_str().unwrap(), "/home/you/guide")
            .replace('\r', "");
        self.names
            .iter()
            .fold(text, |text, (printed, real)| text.replace(real, printed))
    }

    /// Where commands are looked for.
    pub(crate) fn path(&self) -> OsString {
        let mut path = OsString::from(self.dir().join("bin"));
        path.push(":");
        path.push(aqueduct().parent().unwrap());
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (_, name) in self.names.iter().filter(|(it, _)| it.starts_with('/')) {
            // The chapter may have removed it, or not made it.
            let _ = aqueduct::mq::unlink(name);
        }
    }
}

pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|it| it.join(program).exists())
}

/// Ports that are free, below those that the system gives to clients (ip(7), `ip_local_port_range`): a client
/// that tries one of these over and over ends up connected to itself. Each is given to one chapter of one
/// process.
fn free_ports() -> impl Iterator<Item = u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 120) as u16 * 100;
    iter::repeat_with(move || first + TAKEN.fetch_add(1, Ordering::Relaxed)).filter(|port| {
        // Not by `TcpListener`, which can bind what a server without `SO_REUSEADDR` cannot.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], *port));
        socket.bind(&address.into()).is_ok()
    })
}

/// The command. `cargo test` builds it with the tests; it is built here where only these tests were asked for.
fn aqueduct() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let program = Path::new(PROGRAMS).with_file_name("aqueduct");
        let changed = |path: &Path| path.metadata().and_then(|it| it.modified());
        let fresh = || {
            let built = changed(&program).ok()?;
            let made_of = fs::read_to_string(program.with_extension("d")).ok()?;
            let mut sources = made_of.split_whitespace().skip(1).map(Path::new);
            sources
                .all(|it| changed(it).is_ok_and(|it| it <= built))
                .then_some(())
        };
        if fresh().is_none() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "aqueduct-cli"]);
            let release = program.parent().unwrap().ends_with("release");
            assert!(
                cargo
                    .args(release.then_some("--release"))
                    .status()
                    .unwrap()
                    .success()
            );
        }
        program
    };
    BUILT.get_or_init(build).clone()
}
