//! [`Address`]: a path or an abstract name.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

use super::Error;

/// How long a path or an abstract name may be, in bytes (unix(7): `sun_path` has 108, and takes a
/// zero byte at the path's end or before the name).
pub const MAX_ADDRESS_LEN: usize = 107;

/// Where a Unix socket is bound: a path, or a name in Linux's abstract namespace.
///
/// Made from text, a leading `@` marks an abstract name; made from a [`Path`], it is a path.
/// Nothing is checked before the address is used.
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// use aqueduct::unix::Address;
///
/// assert_eq!(Address::from("@name"), Address::Abstract(b"name".into()));
/// assert_eq!(Address::from("/run/a.sock"), Address::Path("/run/a.sock".into()));
/// assert_eq!(Address::from(Path::new("@name")).to_string(), "./@name");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name that is no file and goes with its socket; without the `@`.
    Abstract(Vec<u8>),
}

impl Address {
    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Abstract(_) => None,
        }
    }

    /// The form that the kernel takes.
    pub(super) fn to_kernel(&self) -> Result<SockAddr, Error> {
        let bytes = match self {
            Self::Path(path) => path.as_os_str().as_bytes(),
            Self::Abstract(name) => name,
        };
        if bytes.len() > MAX_ADDRESS_LEN {
            return Err(Error::TooLong {
                address: self.clone(),
                len: bytes.len(),
            });
        }
        let bad = |reason| Error::BadAddress {
            address: self.clone(),
            reason,
        };
        if bytes.is_empty() {
            // The kernel would take it for "choose a name for me".
            return Err(bad("it is empty"));
        }
        let kernel = match self {
            Self::Path(_) if bytes.contains(&0) => return Err(bad("it contains a zero byte")),
            Self::Path(path) => SockAddr::unix(path),
            Self::Abstract(name) => {
                let name = [b"\0", name.as_slice()].concat();
                SockAddr::unix(std::ffi::OsStr::from_bytes(&name))
            }
        };
        kernel.map_err(|source| Error::Io {
            address: self.clone(),
            action: "making a socket address",
            source,
        })
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(name) => Self::Abstract(name.as_bytes().to_vec()),
            None => Self::Path(text.into()),
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Else it would read as an abstract name.
            Self::Path(path) if path.as_os_str().as_bytes().starts_with(b"@") => {
                write!(f, "./{}", path.display())
            }
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => match std::str::from_utf8(name) {
                Ok(name) if !name.contains(char::is_control) => write!(f, "@{name}"),
                _ => write!(f, "@{}", name.escape_ascii()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hundred_and_seven_bytes_are_the_longest_address() {
        for prefix in ["", "@"] {
            let longest = Address::from(format!("{prefix}{}", "a".repeat(107)));
            assert!(longest.to_kernel().is_ok());
            let longer = Address::from(format!("{prefix}{}", "a".repeat(108)));
            let error = longer.to_kernel().expect_err("too long");
            assert!(matches!(error, Error::TooLong { len: 108, .. }));
            assert!(error.to_string().contains("107"), "{error}");
        }
    }

    #[test]
    fn an_empty_address_and_a_zero_byte_in_a_path_are_refused() {
        for text in ["", "@", "a\0b"] {
            let error = Address::from(text).to_kernel().expect_err(text);
            assert!(matches!(error, Error::BadAddress { .. }), "{error}");
        }
        assert!(Address::Abstract(b"a\0b".into()).to_kernel().is_ok());
    }

    #[test]
    fn printing_tells_paths_from_names() {
        for text in ["@name", "/run/x", "./@x", "x"] {
            assert_eq!(Address::from(text).to_string(), text);
        }
        assert_eq!(Address::Abstract(b"a\0b".into()).to_string(), "@a\\x00b");
    }
}
