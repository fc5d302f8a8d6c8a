//! [`OpenOptions`]: a FIFO that exists, opened by its path.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::descriptor::check_as;
use super::{Receiver, Sender};
use crate::io::fd::Access;

/// How to open a FIFO by its path.
///
/// A plain `open(2)`: symbolic links are followed and the owner is not looked at. [`fifo`](crate::fifo)
/// is careful about both, creates what is missing, and waits for the other side.
///
/// # Examples
///
/// ```no_run
/// use aqueduct::pipe::OpenOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let receiver = OpenOptions::new().open_receiver("/run/app/jobs")?;
/// let sender = OpenOptions::new().open_sender("/run/app/jobs")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    read_write: bool,
    unchecked: bool,
}

impl OpenOptions {
    /// The defaults: one direction, and checked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to open for reading and writing, which `fifo(7)` allows on Linux.
    ///
    /// Such an end is its own peer: a receiver never sees the end of the stream, and a sender can
    /// be opened before any reader and never fails for want of one.
    pub fn read_write(&mut self, value: bool) -> &mut Self {
        self.read_write = value;
        self
    }

    /// Whether to leave out the check that the path names a FIFO.
    ///
    /// For a path that is known to be one: saves a system call. Anything else opened this way fails
    /// later and less clearly.
    pub fn unchecked(&mut self, value: bool) -> &mut Self {
        self.unchecked = value;
        self
    }

    /// Opens the reading end. Succeeds at once, whether or not there is a writer.
    ///
    /// # Errors
    ///
    /// - What `open(2)` says of the path, errno intact: `ENOENT`, `EACCES`, `ELOOP`, …
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): the path names
    ///   something else.
    /// - There is no Tokio runtime.
    pub fn open_receiver<P: AsRef<Path>>(&self, path: P) -> io::Result<Receiver> {
        Receiver::from_file_unchecked(self.open(path.as_ref(), Access::Read)?)
    }

    /// Opens the writing end, for which a reader must be there already.
    ///
    /// # Errors
    ///
    /// - `ENXIO`: no process has the FIFO open for reading. Start the reader first, or use
    ///   [`fifo`](crate::fifo), which waits for it.
    /// - What else `open(2)` says of the path, errno intact.
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
