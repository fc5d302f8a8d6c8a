use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::{End, Promises};

/// A transport under test.
pub trait Transport: Sync {
    /// Returns the promises in which transports differ.
    fn promises(&self) -> Promises;

    /// Opens one of two ends that meet at `place`.
    ///
    /// Both sides are opened at the same time, in one process or in two. Create named objects in
    /// the directory of the place, or name them by [`Place::name`]. [`Side::Here`] must remove
    /// objects outside the directory, with a guard that its end [keeps](End::keeping).
    fn open(&self, place: &Place, side: Side) -> impl Future<Output = io::Result<End>>;
}

/// Which of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end in the test's process. It binds, if one of the two has to.
    Here,
    /// The other end, which may be in a process that gets killed.
    There,
}

/// Where two ends meet: a private directory, which is removed when the test ends.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
    max_frame: usize,
    _owned: Option<Arc<TempDir>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let prefix = format!("aqueduct-test-{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir();
        let dir = dir.expect("a directory can be made");
        Self {
            dir: dir.path().to_owned(),
            max_frame: 1 << 20,
            _owned: Some(Arc::new(dir)),
        }
    }

    pub(crate) fn at(dir: PathBuf) -> Self {
        Self {
            dir,
            max_frame: 1 << 20,
            _owned: None,
        }
    }

    pub(crate) fn with_max_frame(&self, bytes: usize) -> Self {
        Self {
            max_frame: bytes,
            ..self.clone()
        }
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns a unique name of letters, digits, `-` and `.`.
    pub fn name(&self) -> &str {
        let name = self.dir.file_name().and_then(|it| it.to_str());
        name.expect("it was made of such")
    }

    /// Returns the largest message to set for this side, in bytes, if it can be set.
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Repeats `attempt` until it succeeds, once the other side is there.
    ///
    /// # Errors
    ///
    /// The last error, at the deadline.
    pub async fn retry<T>(&self, mut attempt: impl AsyncFnMut() -> io::Result<T>) -> io::Result<T> {
        let mut tries = 0;
        loop {
            match attempt().await {
                Err(_) if tries < 10_000 => tries += 1,
                last => return last,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
