//! Whether a directory is a safe place for a socket.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::{Address, Error};

const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHER_WRITE: u32 = 0o002;

/// Looks at the directory that is to hold the socket `path`.
///
/// Whoever may write to it could replace the socket by one of their own, unless the sticky bit
/// forbids that; whoever owns it could in any case.
pub(super) fn check(address: &Address, path: &Path, strict: bool) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let metadata = std::fs::metadata(directory)
        .map_err(|e| Error::from_io(address, "looking at the directory", e))?;
    if !metadata.is_dir() {
        let source = io::Error::from_raw_os_error(libc::ENOTDIR);
        return Err(Error::from_io(address, "looking at the directory", source));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let foreign = owner != 0 && owner != geteuid().as_raw();
    let mut writers = mode & (GROUP_WRITE | OTHER_WRITE);
    if !strict && metadata.gid() == getegid().as_raw() {
        // Many systems give each user a group of their own and make directories group-writable.
        writers &= !GROUP_WRITE;
    }
    if !foreign && (writers == 0 || mode & STICKY != 0) {
        return Ok(());
    }
    if strict {
        return Err(Error::UnsafeDirectory {
            path: directory.into(),
            owner,
            mode,
        });
    }
    tracing::warn!(
        directory = %directory.display(),
        owner,
        mode = format_args!("{mode:#o}"),
        "others could replace a socket in this directory"
    );
    Ok(())
}
