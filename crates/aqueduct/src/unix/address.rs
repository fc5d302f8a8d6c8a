//! [`Address`]: a path or an abstract name; [`Attempt`]: an action on it, and its errors.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use socket2::{SockAddr, Type};

use crate::address::{AddressProblem, Printer, escape, path};
use crate::connect::{self, Meaning, OpenError, OpenErrorKind, Place};

/// The longest path or abstract name in bytes (unix(7): `sun_path` has 108, and takes a zero byte
/// at the path's end or before the name).
const MAX_LEN: usize = 107;

/// Where a Unix socket is bound.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A file.
    Path(PathBuf),
    /// A name that is not a file and disappears with its socket; without the `@`.
    Abstract(Vec<u8>),
}

impl Address {
    /// As users write it: a leading `@` marks an abstract name.
    pub(super) fn new(text: impl AsRef<Path>) -> Self {
        let path = text.as_ref();
        match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => Self::Abstract(name.to_vec()),
            None => Self::Path(path.to_owned()),
        }
    }

    /// Parses what follows the scheme of an address.
    pub(crate) fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let Some((b'@', name)) = rest.split_first() else {
            return Ok(Self::Path(path::decode(rest)?));
        };
        let name = escape::decode(name)?;
        if (1..=MAX_LEN).contains(&name.len()) {
            return Ok(Self::Abstract(name));
        }
        Err(AddressProblem::InvalidPart {
            part: "abstract name",
            value: String::from_utf8_lossy(&name).into_owned(),
            expected: "1 to 107 bytes after the @",
        })
    }

    /// What the address leads to.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Path(path) => Place::path(path),
            Self::Abstract(name) => Place::Name("abstract", name.clone()),
        }
    }

    pub(crate) fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Abstract(_) => None,
        }
    }

    pub(crate) fn print(&self, printer: &mut Printer) {
        match self {
            Self::Path(path) => printer.rest(path.as_os_str(), b"@"),
            Self::Abstract(name) => {
                printer.literal("@");
                printer.rest(OsStr::from_bytes(name), b"");
            }
        }
    }

    /// The name in the kernel's form: abstract names begin with a zero byte.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Abstract(name) => [b"\0", name.as_slice()].concat(),
        }
    }

    fn to_kernel(&self) -> Result<SockAddr, String> {
        let name = match self {
            Self::Path(path) => path.as_os_str().as_bytes(),
            Self::Abstract(name) => name,
        };
        match name.len() {
            // The kernel would choose a name itself.
            0 => return Err("it is empty".into()),
            1..=MAX_LEN => {}
            len => return Err(format!("it has {len} bytes, and at most {MAX_LEN} fit")),
        }
        if self.as_path().is_some() && name.contains(&0) {
            return Err("it contains a zero byte".into());
        }
        SockAddr::unix(OsStr::from_bytes(&self.to_bytes())).map_err(|e| e.to_string())
    }
}

/// An action on an address.
pub(crate) type Attempt = connect::Attempt<Checked>;

/// An address that the kernel takes.
#[derive(Debug)]
pub(crate) struct Checked {
    address: Address,
    kind: Type,
    pub(super) kernel: SockAddr,
}

impl Attempt {
    /// Checks the address.
    pub(super) fn new(
        action: &'static str,
        kind: Type,
        address: Address,
    ) -> Result<Self, OpenError> {
        let scheme = match kind {
            Type::SEQPACKET => "unixpacket",
            Type::DGRAM => "unixgram",
            _ => "unix",
        };
        let object = print(scheme, &address);
        match address.to_kernel() {
            Ok(kernel) => Ok(Self {
                action,
                object,
                address: Checked {
                    address,
                    kind,
                    kernel,
                },
            }),
            Err(cause) => {
                let error = OpenError::new(action, object, OpenErrorKind::InvalidName, cause);
                Err(error.with_cure(
                    "choose a path such as one in $XDG_RUNTIME_DIR, or a name such as @app",
                ))
            }
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.address.address.as_path()
    }

    pub(super) fn kind(&self) -> Type {
        self.address.kind
    }

    /// Explains an error of the system that means the same for every call.
    pub(crate) fn failed(&self, source: io::Error) -> OpenError {
        use OpenErrorKind as Kind;
        let meaning: Option<Meaning> = match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Some((
                Kind::InUse,
                "a running server uses it".into(),
                "stop that server or choose another address",
            )),
            Some(libc::ENOENT | libc::ENOTDIR) if self.action == "bind" => Some((
                Kind::NotFound,
                "its directory does not exist".into(),
                "create the directory, or choose another path",
            )),
            Some(libc::ENOENT | libc::ENOTDIR) => Some((
                Kind::NotFound,
                "it does not exist".into(),
                "start the server, or check the path",
            )),
            Some(libc::ECONNREFUSED) => Some((
                Kind::Refused,
                "nothing listens on it".into(),
                "start the server, or wait until it is there",
            )),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Some((
                Kind::PermissionDenied,
                source.to_string().into(),
                "connecting needs write permission on the socket, binding on its directory, and \
                 both search permission on the directories above",
            )),
            _ => None,
        };
        self.explained(source, meaning)
    }

    pub(super) fn foreign(&self, owner: u32) -> OpenError {
        OpenError::foreign_owner(self.action, &self.object, owner)
    }
}

fn print(scheme: &str, address: &Address) -> String {
    let mut printer = Printer::default();
    address.print(&mut printer);
    printer.finish(scheme, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(text: &str) -> Result<Attempt, OpenError> {
        Attempt::new("bind", Type::STREAM, Address::new(text))
    }

    #[test]
    fn the_longest_address_has_107_bytes() {
        for prefix in ["", "@"] {
            attempt(&format!("{prefix}{}", "a".repeat(107))).expect("it fits");
            let error = attempt(&format!("{prefix}{}", "a".repeat(108))).expect_err("too long");
            assert_eq!(error.kind(), &OpenErrorKind::InvalidName);
            let text = error.to_string();
            assert!(text.contains("108") && text.contains("107"), "{text}");
        }
    }

    #[test]
    fn empty_addresses_and_zero_bytes_in_paths_are_refused() {
        for text in ["", "@", "a\0b"] {
            let error = attempt(text).expect_err(text);
            assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{error}");
        }
        attempt("@a\0b").expect("the kernel takes it");
    }

    #[test]
    fn a_missing_directory_is_named_only_by_bind() {
        for (action, cause) in [("bind", "its directory"), ("connect to", "it")] {
            let attempt = Attempt::new(action, Type::STREAM, Address::new("/none/x")).unwrap();
            let error = attempt.failed(io::Error::from_raw_os_error(libc::ENOENT));
            let expected = format!("cannot {action} unix:/none/x: {cause} does not exist; ");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn addresses_print_as_users_write_them() {
        for (text, printed) in [
            ("@name", "unix:@name"),
            ("/run/x", "unix:/run/x"),
            ("./@x", "unix:./%40x"),
            ("@a\0b", "unix:@a%00b"),
        ] {
            assert_eq!(attempt(text).expect(text).object, printed);
        }
    }
}
