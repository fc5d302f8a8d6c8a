//! [`Address`]: a host and a port, before any look-up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tokio::net::lookup_host;

use super::Error;

/// The host of an address that names none.
pub const DEFAULT_HOST: &str = "127.0.0.1";

/// A host, by name or number, and a port.
///
/// Written `host:port`, `[v6 address]:port`, or without a host `:port` or `port`, which means
/// [`DEFAULT_HOST`]. Printing an address and parsing it again gives the same address. A name is
/// looked up when the address is used, each time.
///
/// # Examples
///
/// ```
/// use aqueduct::tcp::Address;
///
/// # fn main() -> Result<(), aqueduct::tcp::Error> {
/// let address: Address = "[::1]:8080".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 8080));
/// assert_eq!(address.to_string(), "[::1]:8080");
/// assert_eq!(":8080".parse::<Address>()?.to_string(), "127.0.0.1:8080");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host, without the brackets of a v6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 lets the kernel choose a free one in `bind`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every socket address this stands for, at least one.
    pub(super) async fn lookup(&self) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let failed = |source| Error::Lookup {
            address: self.clone(),
            source,
        };
        let found: Vec<_> = found.map_err(failed)?.collect();
        if found.is_empty() {
            return Err(failed(std::io::ErrorKind::NotFound.into()));
        }
        Ok(found)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadAddress {
            address: text.to_owned(),
            reason,
        };
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("the port is missing or not a number"));
        }
        let port = port.parse().map_err(|_| bad("a port is at most 65535"))?;
        let bracketed = host
            .strip_prefix('[')
            .map(|rest| rest.strip_suffix(']').unwrap_or(""));
        let host = match bracketed {
            // A scope after `%` is for the resolver to judge.
            Some(v6) if v6.contains(':') => v6,
            Some(_) => {
                return Err(bad(
                    "only a v6 address goes in brackets, and both are needed",
                ));
            }
            None if host.is_empty() => DEFAULT_HOST,
            None if host.contains(':') => return Err(bad("a v6 address needs brackets")),
            None if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == ']') => {
                return Err(bad("the host contains a character that no host name has"));
            }
            None => host,
        };
        if host.contains('\0') {
            return Err(bad("the host contains a zero byte"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Address {
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

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<(&str, u16)> for Address {
    type Error = Error;

    fn try_from((host, port): (&str, u16)) -> Result<Self, Error> {
        if host.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{host}]:{port}").parse()
        } else {
            format!("{host}:{port}").parse()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() -> Result<(), Error> {
        for text in [":80", "80"] {
            assert_eq!(text.parse::<Address>()?.host(), DEFAULT_HOST);
        }
        Ok(())
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "port"),
            ("localhost", "port"),
            ("localhost:", "port"),
            ("localhost:+1", "port"),
            ("localhost:65536", "65535"),
            ("::1:80", "brackets"),
            ("[::1:80", "both"),
            ("[localhost]:80", "v6"),
            ("a b:80", "character"),
            ("[::1\0]:80", "zero"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_address(text in "(\\[[0-9a-f:%]{1,12}\\]|[a-z0-9.-]{0,12})?:?[0-9]{1,5}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().ok(), Some(address));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = text.parse::<Address>();
        }

        #[test]
        fn a_socket_address_becomes_an_address_that_prints_like_it(ip: IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(Address::from(address).to_string(), address.to_string());
        }
    }
}
