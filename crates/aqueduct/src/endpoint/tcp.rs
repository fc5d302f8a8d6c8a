//! `tcp://host:port`.

use std::net::Ipv6Addr;

use super::query::Query;
use super::{AddressError, AddressProblem, Printer, escape};

const HOST: &str = "a host name, an IPv4 address or an IPv6 address in brackets; 127.0.0.1 is this \
                    machine alone, 0.0.0.0 binds every interface";
const PORT: &str = "a colon and a number from 0 to 65535, 0 standing for any free port";

/// A TCP socket: `tcp://host:port`, option `nodelay`.
///
/// An IPv6 address stands in brackets: `tcp://[::1]:80`.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Tcp;
///
/// let Endpoint::Tcp(tcp) = "tcp:[::1]:8080".parse()? else { unreachable!() };
/// assert_eq!((tcp.host(), tcp.port()), ("::1", 8080));
/// assert_eq!(Endpoint::from(Tcp::new("::1", 8080)?).to_string(), "tcp://[::1]:8080");
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tcp {
    host: String,
    port: u16,
    nodelay: Option<bool>,
}

impl Tcp {
    pub(super) const OPTIONS: &'static [&'static str] = &["nodelay"];

    /// The port `port` of `host`: a name, an IPv4 address, or an IPv6 address without brackets.
    ///
    /// # Errors
    ///
    /// The host is neither an address nor made of the characters `A-Z a-z 0-9 . _ -`.
    pub fn new(host: impl Into<String>, port: u16) -> Result<Self, AddressError> {
        let host = host.into();
        if !is_name(&host) && !is_ipv6(&host) {
            return Err(AddressError::new(b"tcp:", invalid("host", &host, HOST)));
        }
        Ok(Self {
            host,
            port,
            nodelay: None,
        })
    }

    /// Sets whether small writes go out at once (`TCP_NODELAY`).
    #[must_use]
    pub fn with_nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = Some(nodelay);
        self
    }

    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `nodelay`: whether small writes go out at once.
    pub fn nodelay(&self) -> Option<bool> {
        self.nodelay
    }

    pub(super) fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let rest = escape::decode(rest)?;
        let rest = String::from_utf8_lossy(&rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let split = inner.split_once(']').filter(|(host, _)| is_ipv6(host));
                split.ok_or_else(|| invalid("host", &rest, HOST))?
            }
            None => {
                let (host, port) = rest.split_at(rest.rfind(':').unwrap_or(rest.len()));
                if !is_name(host) {
                    return Err(invalid("host", host, HOST));
                }
                (host, port)
            }
        };
        let digits = port.strip_prefix(':').unwrap_or_default();
        let valid = digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| valid);
        Ok(Self {
            host: host.to_owned(),
            port: number.ok_or_else(|| invalid("port", port, PORT))?,
            nodelay: query.boolean("nodelay")?,
        })
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        if self.host.contains(':') {
            printer.literal("[");
            printer.rest(self.host.as_ref(), b"");
            printer.literal("]");
        } else {
            printer.rest(self.host.as_ref(), b"");
        }
        printer.literal(":");
        printer.literal(&self.port.to_string());
        printer.option("nodelay", self.nodelay);
    }
}

fn is_name(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !host.is_empty() && host.bytes().all(allowed)
}

/// An IPv6 address, perhaps with a zone (`fe80::1%eth0`, RFC 4007).
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    address.parse::<Ipv6Addr>().is_ok() && is_name(zone)
}

fn invalid(part: &'static str, value: &str, expected: &'static str) -> AddressProblem {
    AddressProblem::InvalidPart {
        part,
        value: value.to_owned(),
        expected,
    }
}
