//! Every operation that documents its cancel safety, dropped at every point where it waits.
//!
//! What is sent and received through a channel is tried by `conformance`, over every transport; the
//! ends of a pipe by `pipe::cancel`. Here are the others. `cargo test --test suite await_points --
//! --nocapture` prints how many points each has.

mod children;
mod fifos;
mod queues;
mod services;
mod sockets;
mod standard;

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

/// Where an operation takes a limit.
const NEVER: Duration = Duration::from_secs(3600);

/// A directory, and a path in it where nothing is.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("name");
    (dir, path)
}
