//! `unix:` and `unixpacket:`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::query::Query;
use super::{AddressError, AddressProblem, Printer, escape, path};

/// The longest abstract name: `sun_path` less the zero byte that marks it (`unix(7)`).
const MAX_ABSTRACT: usize = 107;

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnixName {
    /// A socket file. How long a path the system takes is found out when it is opened.
    Path(PathBuf),
    /// A name in the network namespace's own list, which is no file: `@name` (`unix(7)`,
    /// "abstract"). Any user of the namespace can connect to it.
    Abstract(Vec<u8>),
}

/// A Unix socket, in `unix:` (a stream) or `unixpacket:` (`SOCK_SEQPACKET`); option `mode`.
///
/// What follows the scheme is a path, absolute or relative, or `@` and an abstract name. A path
/// that begins with an `@` is written with `%40`.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Unix;
///
/// let chat = Unix::new("/run/chat.sock")?.with_mode(0o660);
/// assert_eq!(Endpoint::Unix(chat).to_string(), "unix:/run/chat.sock?mode=0660");
/// let hub = Unix::new_abstract("hub")?;
/// assert_eq!(Endpoint::UnixPacket(hub).to_string(), "unixpacket:@hub");
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unix {
    name: UnixName,
    mode: Option<u32>,
}

impl Unix {
    pub(super) const OPTIONS: &'static [&'static str] = &["mode"];

    /// The socket at `path`.
    ///
    /// # Errors
    ///
    /// A path that is empty or has a NUL byte in it is none the system can take.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        let path = path.into();
        path::check(&path).map_err(|problem| AddressError::new(b"unix:", problem))?;
        Ok(Self {
            name: UnixName::Path(path),
            mode: None,
        })
    }

    /// The socket with the abstract name `name`, given without its `@`.
    ///
    /// # Errors
    ///
    /// The name is not 1 to 107 bytes long.
    pub fn new_abstract(name: impl Into<Vec<u8>>) -> Result<Self, AddressError> {
        let name = name.into();
        check_abstract(&name).map_err(|problem| AddressError::new(b"unix:@", problem))?;
        Ok(Self {
            name: UnixName::Abstract(name),
            mode: None,
        })
    }

    /// Sets the permission bits of a socket file that is made; bits above `0o777` are dropped.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// The socket's name.
    pub fn name(&self) -> &UnixName {
        &self.name
    }

    /// The socket's path, unless its name is abstract.
    pub fn path(&self) -> Option<&Path> {
        match &self.name {
            UnixName::Path(path) => Some(path),
            UnixName::Abstract(_) => None,
        }
    }

    /// `mode`: the permission bits of a socket file that is made.
    pub fn mode(&self) -> Option<u32> {
        self.mode
    }

    pub(super) fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let name = match rest.split_first() {
            Some((b'@', name)) => {
                let name = escape::decode(name)?;
                check_abstract(&name)?;
                UnixName::Abstract(name)
            }
            _ => UnixName::Path(path::decode(rest)?),
        };
        let mode = query.mode()?;
        Ok(Self { name, mode })
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        match &self.name {
            UnixName::Path(path) => printer.rest(path.as_os_str(), b"@"),
            UnixName::Abstract(name) => {
                printer.literal("@");
                printer.rest(OsStr::from_bytes(name), b"");
            }
        }
        printer.mode(self.mode);
    }
}

fn check_abstract(name: &[u8]) -> Result<(), AddressProblem> {
    if (1..=MAX_ABSTRACT).contains(&name.len()) {
        return Ok(());
    }
    Err(AddressProblem::InvalidPart {
        part: "abstract name",
        value: String::from_utf8_lossy(name).into_owned(),
        expected: "1 to 107 bytes after the @",
    })
}
