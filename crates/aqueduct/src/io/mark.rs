//! How to tell what this library has made.
//!
//! FIFOs, queues and socket files outlive a process that is killed. So that they can be told from
//! those of other programs, and be cleaned up without a doubt, everything with a name that this
//! library makes carries a mark: the sticky bit of its mode, which has no meaning but on a directory
//! ([`chmod(1)`](https://man7.org/linux/man-pages/man1/chmod.1.html)). `ls -l` shows it as a `T`:
//! `prw------T`. It is there from the moment the thing is made, dies with it, and needs no file
//! besides. Who may use the thing is what its nine permission bits say.
//!
//! What was there before, made by somebody else, is used as it is and gets no mark.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The bit in the mode of what this library has made: `S_ISVTX`.
pub(crate) const MARK: u32 = 0o1000;

/// Whether a FIFO, a socket file or a queue in `/dev/mqueue` carries the mark: its sticky bit, octal 1000.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("jobs");
/// let jobs = aqueduct::fifo::OpenOptions::new().create(true).open_receiver(&path)?;
/// assert!(aqueduct::is_marked(&std::fs::metadata(&path)?));
/// # Ok(())
/// # }
/// ```
pub fn is_marked(metadata: &Metadata) -> bool {
    // On a directory the bit has its own meaning.
    metadata.mode() & MARK != 0 && !metadata.is_dir()
}
