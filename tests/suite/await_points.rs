//! Every operation that documents its cancel safety, dropped at every point where it waits.
//!
//! What is sent and received through a channel is tried by `conformance`, over every transport; the
//! ends of a pipe by `pipe::cancel`. Here are the others. `cargo test --test suite await_points --
//! --nocapture` prints how many points each has.

mod accepting;
mod children;
mod connecting;
mod fifos;
mod packets;
mod pairs;
mod queues;
mod services;
mod shutdown;
mod standard;
mod streams;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::Endpoint;
use tempfile::TempDir;

/// Where an operation takes a limit.
const NEVER: Duration = Duration::from_secs(3600);

/// A directory, and a path in it where nothing is.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("name");
    (dir, path)
}

fn address(path: &Path) -> Endpoint {
    let address = format!("unix:{}", path.display());
    address.parse().expect("it is one")
}

/// Something to pass on.
fn null() -> OwnedFd {
    let file = File::open("/dev/null");
    file.expect("every system has it").into()
}
