//! [`OpenOptions`]: opens an existing FIFO by its path.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::descriptor::check_as;
use super::{Receiver, Sender};
use crate::io::fd::Access;

/// Options for opening an existing FIFO by its path.
///
/// This is a plain `open(2)`: it follows symbolic links and does not check the owner.
/// [`fifo`](crate::fifo) checks both, creates a missing FIFO, and waits for the peer.
///
/// # Examples
///
/// ```
/// use aqueduct::pipe::OpenOptions;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs");
/// # let _fifo = aqueduct::fifo::OpenOptions::new().create(true).open_receiver(&path)?;
/// # let _ = r#"
/// let path = "/run/app/jobs";
/// # "#;
/// let mut receiver = OpenOptions::new().open_receiver(&path)?;
/// let mut sender = OpenOptions::new().open_sender(&path)?;
/// # drop(_fifo);
/// sender.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// receiver.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    read_write: bool,
    unchecked: bool,
}

impl OpenOptions {
    /// Creates the default options: one direction, and checked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to open for reading and writing, which Linux allows (`fifo(7)`).
    ///
    /// Such an end is its own peer. A receiver never sees the end of the stream. A sender can be
    /// opened before any reader, and its writes never fail for lack of one.
    pub fn read_write(&mut self, value: bool) -> &mut Self {
        self.read_write = value;
        self
    }

    /// Sets whether to skip the check that the path names a FIFO.
    ///
    /// This saves a system call for a path that is known to be one. Any other file opened this way
    /// fails later and with a less clear error.
    pub fn unchecked(&mut self, value: bool) -> &mut Self {
        self.unchecked = value;
        self
    }

    /// Opens the reading end at once, whether or not there is a writer.
    ///
    /// # Errors
    ///
    /// - Any error of `open(2)`, with the errno: `ENOENT`, `EACCES`, `ELOOP`, …
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): the path names
    ///   something else.
    /// - There is no Tokio runtime.
    pub fn open_receiver<P: AsRef<Path>>(&self, path: P) -> io::Result<Receiver> {
        Receiver::from_file_unchecked(self.open(path.as_ref(), Access::Read)?)
    }

    /// Opens the writing end. A reader must already have the FIFO open.
    ///
    /// # Errors
    ///
    /// - `ENXIO`: no process has the FIFO open for reading. Start the reader first, or use
    ///   [`fifo`](crate::fifo), which waits for it.
    /// - Any other error of `open(2)`, with the errno.
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): the path names
    ///   something else.
    /// - There is no Tokio runtime.
    pub fn open_sender<P: AsRef<Path>>(&self, path: P) -> io::Result<Sender> {
        Sender::from_file_unchecked(self.open(path.as_ref(), Access::Write)?)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        let file = File::options()
            .read(self.read_write || access.can_read())
            .write(self.read_write || access.can_write())
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        if !self.unchecked {
            check_as(&file, access, || path.display().to_string())?;
        }
        Ok(file)
    }
}
