//! The mark of objects that this library created.
//!
//! FIFOs, queues and socket files outlive a process that is killed. To distinguish them from those
//! of other programs, so that they can be removed safely, every named object that this library
//! creates carries a mark: the sticky bit of its mode, which has no meaning except on a directory
//! ([`chmod(1)`](https://man7.org/linux/man-pages/man1/chmod.1.html)). `ls -l` shows it as a `T`:
//! `prw------T`. It is set from the moment of creation, disappears with the object, and needs no
//! sidecar file. The nine permission bits still say who may use the object.
//!
//! Objects that existed before, created by another program, are used unchanged and get no mark.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The bit in the mode of objects that this library created: `S_ISVTX`.
pub(crate) const MARK: u32 = 0o1000;

/// Returns whether this library created a FIFO, socket file or queue.
///
/// It looks at the mark in the mode: the sticky bit, octal 1000. The metadata of a queue is that of
/// its file in `/dev/mqueue`.
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
    // On a directory the bit has another meaning.
    metadata.mode() & MARK != 0 && !metadata.is_dir()
}
