//! [`HostPort`]: a host and a port, before any lookup.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::{AddressProblem, Printer, escape};

const HOST: &str = "a host name, an IPv4 address or an IPv6 address in brackets; 127.0.0.1 is this \
                    machine alone, 0.0.0.0 binds every interface";
const PORT: &str = "a colon and a number from 0 to 65535, 0 standing for any free port";

/// A host, by name or number, and a port. It prints as `host:port` or `[v6 address]:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Without the brackets of a v6 address.
    pub(crate) host: String,
    /// 0 lets the kernel choose a free one to bind.
    pub(crate) port: u16,
}

impl HostPort {
    /// Parses what follows the scheme of an address.
    pub(crate) fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
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
        })
    }

    pub(crate) fn print(&self, printer: &mut Printer) {
        if self.host.contains(':') {
            printer.literal("[");
            printer.rest(self.host.as_ref(), b"");
            printer.literal("]");
        } else {
            printer.rest(self.host.as_ref(), b"");
        }
        printer.literal(":");
        printer.literal(&self.port.to_string());
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        Self {
            host,
            port: address.port(),
        }
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
