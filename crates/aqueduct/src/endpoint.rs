//! Addresses: one syntax for code, command lines, configuration files and logs.
//!
//! An [`Endpoint`] is a parsed address. Parsing opens nothing.
//!
//! # Grammar
//!
//! An address is `scheme:rest` or `scheme://rest`, followed by options as in a URL:
//! `?name=value&name=value`.
//!
//! | address | mechanism | options |
//! |---|---|---|
//! | `fifo:/path` | named FIFO | `create`, `frame`, `group`, `mode`, `persist` |
//! | `mq:/name` | POSIX message queue | `capacity`, `create`, `driver`, `group`, `max-message`, `mode`, `priority` |
//! | `unix:/path`, `unix:@name` | Unix stream socket (file, abstract) | `frame`, `group`, `mode` |
//! | `shm:/path`, `shm:@name` | shared memory, set up over a Unix socket | `capacity`, `fallback`, `frame`, `group`, `mode` |
//! | `unixpacket:/path`, `unixpacket:@name` | Unix `SOCK_SEQPACKET` socket | `group`, `mode` |
//! | `unixgram:/path`, `unixgram:@name` | Unix datagram socket | `group`, `mode` |
//! | `tcp://host:port` | TCP | `frame`, `nodelay` |
//! | `tls://host:port` (feature `tls`) | TLS over TCP | `alpn`, `ca`, `cert`, `client-ca`, `frame`, `key`, `name`, `nodelay` |
//! | `nats://host/subject` (feature `nats`) | a NATS server | see `nats` |
//! | `udp://host:port` | UDP | |
//! | `fd:N` | an inherited descriptor | `frame` |
//! | `stdio:` | standard input and output | `frame` |
//! | `exec:program arg …` | a child process, over its standard input and output | `frame` |
//!
//! - `frame` sets how a byte stream is split into messages: one of the
//!   [names](crate::frame::Framing::names) of framings, such as `lines` or `u16be`. It must not differ
//!   from a framing that the [`Options`](crate::connect::Options) set.
//! - `mode` is octal, as in `mode=600`. `group` is the name or number of the group of a created
//!   object; the default mode is then 660. `create`, `fallback`, `persist` and `nodelay` are `true`
//!   or `false`. `capacity`, `max-message` and `priority` are numbers; `max-message`, and the
//!   `capacity` of `shm:`, may have a unit, as in `64KiB`. `driver` is `pool` or `asyncfd`.
//! - Paths may be relative. `scheme://` is the same as `scheme:`, so `fifo://a/b` is the relative
//!   path `a/b`. The absolute path `/a/b` is `fifo:/a/b` or `fifo:///a/b`.
//! - The first `?` starts the options. `%` and two hexadecimal digits stand for one byte, anywhere
//!   after the scheme. Write a literal `?` as `%3F` and a literal `%` as `%25`.
//! - Printing escapes `?`, `%`, white space, control characters and bytes that are not UTF-8, so a
//!   printed address is one printable word. The exception is `exec:`, where spaces separate words.
//! - Schemes and options are lower case. An unknown name, a repeated option or a value out of range
//!   is an error that lists what is allowed.
//! - Parsing a printed address gives an equal [`Endpoint`].
//!
//! # Examples
//!
//! ```
//! use aqueduct::Endpoint;
//!
//! let jobs: Endpoint = "fifo:/run/app/jobs?mode=620&persist=true".parse()?;
//! assert_eq!(jobs.scheme().name, "fifo");
//! assert_eq!(jobs.to_string(), "fifo:/run/app/jobs?mode=0620&persist=true");
//!
//! let error = "fifo:/run/app/jobs?persit=true".parse::<Endpoint>().unwrap_err();
//! assert!(error.to_string().contains("persist"));
//! # Ok::<(), aqueduct::AddressError>(())
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use crate::address::{Query, escape, nearest::nearest};
#[cfg(feature = "nats")]
use crate::nats;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{child, fifo, inherited, mq, shm, stdio, tcp, udp, unix, unixgram};

pub use crate::address::{
    AddressError, AddressProblem, Awaited, Capabilities, Direction, EndOfStream, LargestMessage,
    Ordering, Sharing,
};
pub use crate::connect::{Endpoint, Scheme};

/// Every scheme, in alphabetical order. A new scheme is one line here.
const SCHEMES: &[&Scheme] = &[
    &child::SCHEME,
    &inherited::SCHEME,
    &fifo::SCHEME,
    &mq::SCHEME,
    #[cfg(feature = "nats")]
    &nats::SCHEME,
    &shm::SCHEME,
    &stdio::SCHEME,
    &tcp::SCHEME,
    #[cfg(feature = "tls")]
    &tls::SCHEME,
    #[cfg(test)]
    &tests::toy::SCHEME,
    &udp::SCHEME,
    &unix::STREAM,
    &unixgram::SCHEME,
    &unix::PACKET,
];

static NAMES: [&str; SCHEMES.len()] = {
    let mut names = [""; SCHEMES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = SCHEMES[i].name;
        i += 1;
    }
    names
};

impl Endpoint {
    /// Lists every scheme, in alphabetical order.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// for scheme in Endpoint::schemes() {
    ///     println!("{}  {}", scheme.form, scheme.summary);
    /// }
    /// assert!(Endpoint::schemes().iter().any(|it| it.name == "fifo"));
    /// ```
    pub fn schemes() -> &'static [&'static Scheme] {
        SCHEMES
    }

    /// Creates an endpoint from a scheme and a literal rest, such as a path.
    ///
    /// `rest` may hold any bytes: `?` and `%` are escaped. The endpoint has no options.
    ///
    /// # Errors
    ///
    /// The same as for parsing.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// let endpoint = Endpoint::new("fifo", "/tmp/100% done?")?;
    /// assert_eq!(endpoint.to_string(), "fifo:/tmp/100%25%20done%3F");
    /// assert_eq!(endpoint.path(), Some("/tmp/100% done?".as_ref()));
    /// # Ok::<(), aqueduct::AddressError>(())
    /// ```
    pub fn new(scheme: &str, rest: impl AsRef<OsStr>) -> Result<Self, AddressError> {
        let mut address = format!("{scheme}://");
        escape::encode(rest.as_ref().as_bytes(), b"", &mut address);
        address.parse()
    }

    fn parse(address: &[u8]) -> Result<Self, AddressProblem> {
        let Some(colon) = memchr::memchr(b':', address) else {
            return Err(no_scheme(address));
        };
        let (name, rest) = (&address[..colon], &address[colon + 1..]);
        let Some(scheme) = SCHEMES.iter().find(|it| it.name.as_bytes() == name) else {
            return Err(unknown_scheme(address, name, rest));
        };
        let rest = rest.strip_prefix(b"//").unwrap_or(rest);
        let (rest, options) = match memchr::memchr(b'?', rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let query = Query::parse(scheme.name, scheme.options, options)?;
        let mechanism = (scheme.parse)(rest, &query)?;
        Ok(Self::from_parts(scheme, mechanism).with_framing(query.parsed("frame")?))
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        Self::try_from(OsStr::new(address))
    }
}

/// Parses a command line argument, which may hold bytes that are not UTF-8.
impl TryFrom<&OsStr> for Endpoint {
    type Error = AddressError;

    fn try_from(address: &OsStr) -> Result<Self, AddressError> {
        let address = address.as_bytes();
        Self::parse(address).map_err(|problem| AddressError::new(address, problem))
    }
}

/// The same as `TryFrom<&OsStr>`.
impl TryFrom<OsString> for Endpoint {
    type Error = AddressError;

    fn try_from(address: OsString) -> Result<Self, AddressError> {
        Self::try_from(address.as_os_str())
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

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        word => nearest_scheme(word).map(|scheme| format!("{scheme}:")),
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
        nearest_scheme(&scheme).map(str::to_owned)
    };
    AddressProblem::UnknownScheme {
        scheme: scheme.into_owned(),
        allowed: &NAMES,
        nearest,
    }
}

/// Finds the scheme that `word` most likely stands for.
fn nearest_scheme(word: &str) -> Option<&'static str> {
    let synonym = SCHEMES.iter().find(|it| it.synonyms.contains(&word));
    synonym
        .map(|it| it.name)
        .or_else(|| nearest(word, NAMES.iter().copied()))
}

#[cfg(test)]
mod tests;
