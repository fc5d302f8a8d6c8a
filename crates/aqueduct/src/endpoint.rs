//! Addresses: one grammar for code, command line, configuration files and logs.
//!
//! Nothing here opens anything; an [`Endpoint`] is a parsed address and no more.
//!
//! # Grammar
//!
//! `scheme:rest`, or `scheme://rest`, then perhaps options as in a URL: `?name=value&name=value`.
//!
//! | address | mechanism | options |
//! |---|---|---|
//! | `fifo:/path` | named FIFO | `create`, `mode`, `persist` |
//! | `mq:/name` | POSIX message queue | `capacity`, `create`, `driver`, `max-message`, `mode`, `priority` |
//! | `unix:/path`, `unix:@name` | Unix stream socket (file, abstract) | `mode` |
//! | `unixpacket:/path`, `unixpacket:@name` | Unix `SOCK_SEQPACKET` socket | `mode` |
//! | `tcp://host:port` | TCP | `nodelay` |
//! | `fd:N` | an inherited descriptor | |
//! | `stdio:` | standard input and output | |
//! | `exec:program arg …` | a child process, over its standard input and output | |
//!
//! - `mode` is octal, as in `mode=600`; `create`, `persist` and `nodelay` are `true` or `false`;
//!   `capacity`, `max-message` and `priority` are numbers, and `max-message` may be a size such as
//!   `64KiB`; `driver` is `pool` or `asyncfd`.
//! - Paths may be relative. Since `scheme://` only stands for `scheme:`, `fifo://a/b` is the
//!   relative path `a/b`, and the absolute path `/a/b` is `fifo:/a/b` or `fifo:///a/b`.
//! - The first `?` starts the options. `%` and two hexadecimal digits stand for one byte, anywhere
//!   after the scheme; so a `?` that starts no options is `%3F`, and a percent sign is `%25`.
//!   Printing escapes these two, white space, control characters and what is not UTF-8, so a
//!   printed address is one printable word. (In `exec:` spaces separate words and stay.)
//! - Schemes and options are lower case. An unknown one, one given twice and a value out of range
//!   are errors that say what is allowed.
//! - Printing an address and parsing it again gives the same [`Endpoint`].

mod capabilities;
mod error;
mod escape;
mod exec;
mod fd;
mod fifo;
mod mq;
mod nearest;
mod path;
mod printer;
mod query;
mod tcp;
mod unix;

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

pub use self::capabilities::{
    Capabilities, Direction, EndOfStream, LargestMessage, Ordering, Sharing,
};
pub use self::error::{AddressError, AddressProblem};
pub use self::exec::Exec;
pub use self::fd::Fd;
pub use self::fifo::Fifo;
pub use self::mq::Mq;
pub use self::tcp::Tcp;
pub use self::unix::{Unix, UnixName};

use self::printer::Printer;
use self::query::Query;

/// A parsed address: where messages come from or go to. The [module](self) has the grammar.
///
/// With the feature `serde` an endpoint is read from and written as its address.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
///
/// let endpoint: Endpoint = "fifo:///run/app/jobs?mode=620".parse()?;
/// let Endpoint::Fifo(fifo) = &endpoint else { unreachable!() };
/// assert_eq!(fifo.path().to_str(), Some("/run/app/jobs"));
/// assert_eq!(fifo.mode(), Some(0o620));
/// assert_eq!(endpoint.to_string(), "fifo:/run/app/jobs?mode=0620");
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `fifo:/path`: a named FIFO.
    Fifo(Fifo),
    /// `mq:/name`: a POSIX message queue.
    Mq(Mq),
    /// `unix:/path`, `unix:@name`: a Unix stream socket.
    Unix(Unix),
    /// `unixpacket:/path`, `unixpacket:@name`: a Unix socket that keeps message boundaries.
    UnixPacket(Unix),
    /// `tcp://host:port`: a TCP socket.
    Tcp(Tcp),
    /// `fd:N`: an inherited descriptor.
    Fd(Fd),
    /// `stdio:`: standard input and output.
    Stdio,
    /// `exec:program arg …`: a child process.
    Exec(Exec),
}

/// Every scheme, with the options that it takes.
const SCHEMES: [(&str, &[&str]); 8] = [
    ("exec", &[]),
    ("fd", &[]),
    ("fifo", Fifo::OPTIONS),
    ("mq", Mq::OPTIONS),
    ("stdio", &[]),
    ("tcp", Tcp::OPTIONS),
    ("unix", Unix::OPTIONS),
    ("unixpacket", Unix::OPTIONS),
];
const NAMES: [&str; 8] = {
    let mut names = [""; 8];
    let mut i = 0;
    while i < names.len() {
        names[i] = SCHEMES[i].0;
        i += 1;
    }
    names
};

impl Endpoint {
    /// The scheme of the address, such as `fifo`.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Fifo(_) => "fifo",
            Self::Mq(_) => "mq",
            Self::Unix(_) => "unix",
            Self::UnixPacket(_) => "unixpacket",
            Self::Tcp(_) => "tcp",
            Self::Fd(_) => "fd",
            Self::Stdio => "stdio",
            Self::Exec(_) => "exec",
        }
    }

    /// What the mechanism can do: direction, boundaries, ordering, end of stream, limits, sharing.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::of(self)
    }

    fn parse(address: &[u8]) -> Result<Self, AddressProblem> {
        let Some(colon) = memchr::memchr(b':', address) else {
            return Err(no_scheme(address));
        };
        let (scheme, rest) = (&address[..colon], &address[colon + 1..]);
        let Some(&(scheme, allowed)) = SCHEMES.iter().find(|it| it.0.as_bytes() == scheme) else {
            return Err(unknown_scheme(address, scheme, rest));
        };
        let rest = rest.strip_prefix(b"//").unwrap_or(rest);
        let (rest, options) = match memchr::memchr(b'?', rest) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &[][..]),
        };
        let query = Query::parse(scheme, allowed, options)?;
        Ok(match scheme {
            "fifo" => Self::Fifo(Fifo::parse(rest, &query)?),
            "mq" => Self::Mq(Mq::parse(rest, &query)?),
            "unix" => Self::Unix(Unix::parse(rest, &query)?),
            "unixpacket" => Self::UnixPacket(Unix::parse(rest, &query)?),
            "tcp" => Self::Tcp(Tcp::parse(rest, &query)?),
            "fd" => Self::Fd(Fd::parse(rest)?),
            "exec" => Self::Exec(Exec::parse(rest)?),
            // "stdio", the last one in the table.
            _ if rest.is_empty() => Self::Stdio,
            _ => {
                return Err(AddressProblem::InvalidPart {
                    part: "rest",
                    value: String::from_utf8_lossy(rest).into_owned(),
                    expected: "empty, since the address is no more than \"stdio:\"",
                });
            }
        })
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        Self::try_from(OsStr::new(address))
    }
}

/// For command lines, where a path may have bytes in it that are not UTF-8.
impl TryFrom<&OsStr> for Endpoint {
    type Error = AddressError;

    fn try_from(address: &OsStr) -> Result<Self, AddressError> {
        let address = address.as_bytes();
        Self::parse(address).map_err(|problem| AddressError::new(address, problem))
    }
}

/// As `TryFrom<&OsStr>`.
impl TryFrom<OsString> for Endpoint {
    type Error = AddressError;

    fn try_from(address: OsString) -> Result<Self, AddressError> {
        Self::try_from(address.as_os_str())
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::default();
        match self {
            Self::Fifo(fifo) => fifo.print(&mut printer),
            Self::Mq(mq) => mq.print(&mut printer),
            Self::Unix(unix) | Self::UnixPacket(unix) => unix.print(&mut printer),
            Self::Tcp(tcp) => tcp.print(&mut printer),
            Self::Fd(fd) => fd.print(&mut printer),
            Self::Stdio => {}
            Self::Exec(exec) => exec.print(&mut printer),
        }
        f.pad(&printer.finish(self.scheme(), matches!(self, Self::Tcp(_))))
    }
}

impl From<Fifo> for Endpoint {
    fn from(fifo: Fifo) -> Self {
        Self::Fifo(fifo)
    }
}

impl From<Mq> for Endpoint {
    fn from(mq: Mq) -> Self {
        Self::Mq(mq)
    }
}

impl From<Tcp> for Endpoint {
    fn from(tcp: Tcp) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<Fd> for Endpoint {
    fn from(fd: Fd) -> Self {
        Self::Fd(fd)
    }
}

impl From<Exec> for Endpoint {
    fn from(exec: Exec) -> Self {
        Self::Exec(exec)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Address;

        impl serde::de::Visitor<'_> for Address {
            type Value = Endpoint;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as fifo:/run/app/jobs")
            }

            fn visit_str<E: serde::de::Error>(self, address: &str) -> Result<Endpoint, E> {
                address.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Address)
    }
}

fn no_scheme(address: &[u8]) -> AddressProblem {
    let address = String::from_utf8_lossy(address);
    let nearest = match &*address {
        "-" => Some("stdio:".to_owned()),
        path if path.contains('/') => Some(format!("fifo:{path}")),
        word => nearest::scheme(word, &NAMES).map(|scheme| format!("{scheme}:")),
    };
    AddressProblem::NoScheme {
        allowed: &NAMES,
        nearest,
    }
}

fn unknown_scheme(address: &[u8], scheme: &[u8], rest: &[u8]) -> AddressProblem {
    let scheme = String::from_utf8_lossy(scheme);
    let nearest = if scheme.contains('/') {
        Some(format!("fifo:{}", String::from_utf8_lossy(address)))
    } else if !rest.is_empty() && rest.iter().all(u8::is_ascii_digit) {
        Some(format!("tcp://{}", String::from_utf8_lossy(address)))
    } else {
        nearest::scheme(&scheme, &NAMES).map(str::to_owned)
    };
    AddressProblem::UnknownScheme {
        scheme: scheme.into_owned(),
        allowed: &NAMES,
        nearest,
    }
}

#[cfg(test)]
mod tests;
