//! Paths in addresses.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{AddressProblem, escape};

/// Parses a path, with percent escapes.
pub(crate) fn decode(rest: &[u8]) -> Result<PathBuf, AddressProblem> {
    let path = PathBuf::from(OsString::from_vec(escape::decode(rest)?));
    check(&path)?;
    Ok(path)
}

/// Whether the system could accept `path` at all.
pub(crate) fn check(path: &Path) -> Result<(), AddressProblem> {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.is_empty() && !bytes.contains(&0) {
        return Ok(());
    }
    Err(AddressProblem::InvalidPart {
        part: "path",
        value: path.to_string_lossy().into_owned(),
        expected: "an absolute or relative path without a NUL byte",
    })
}
