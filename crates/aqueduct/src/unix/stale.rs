//! Socket files whose server is gone.

use std::path::Path;

use super::claim::{Claim, check_kind, is_alive};
use super::{Address, Error};

/// Whether a process has a socket bound to the socket file at `path`, be it listening or not.
///
/// The kernel is asked by connecting with a datagram socket, which a server of another kind does
/// not notice.
///
/// # Errors
///
/// [`Error::NotASocket`] if something else is there; [`Error::Io`] if nothing is (`ENOENT`), or the
/// file may not be written to, which is what asking needs (`EACCES`); [`Error::TooLong`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("socket");
/// // The standard library leaves the file behind.
/// let listener = std::os::unix::net::UnixListener::bind(&path)?;
/// assert!(aqueduct::unix::is_served(&path)?);
/// drop(listener);
/// assert!(!aqueduct::unix::is_served(&path)?);
/// # Ok(())
/// # }
/// ```
pub fn is_served(path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    let address = Address::from(path);
    let failed = |e| Error::from_io(&address, "asking for its server", e);
    if check_kind(&address, path)?.is_none() {
        return Err(failed(std::io::ErrorKind::NotFound.into()));
    }
    is_alive(&address.to_kernel()?).map_err(failed)
}

/// Removes the socket file at `path`, and the lock file beside it, if its server is gone; whether
/// there was such a file. It is what a new server does before it binds, under the same lock, so no
/// server of this library that is just starting loses its file.
///
/// # Errors
///
/// [`Error::InUse`] if there is a server, or one is just starting; [`Error::NotASocket`];
/// [`Error::Lock`] and [`Error::Io`] where the directory may not be written to.
pub fn remove_stale(path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    let address = Address::from(path);
    let kernel = address.to_kernel()?;
    Claim::take(&address, path)?.clear(&address, &kernel, true)
}
