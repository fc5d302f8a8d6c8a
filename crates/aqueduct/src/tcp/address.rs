//! [`Attempt`]: an action on a host and a port, and its errors.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use crate::address::HostPort;
use crate::connect::{self, Meaning, OpenError, OpenErrorKind};

/// The host of an address that names none.
const DEFAULT_HOST: &str = "127.0.0.1";

/// Parses `host:port`, `[v6 address]:port`, or without a host `:port` or `port`.
fn parse(text: &str) -> Result<HostPort, &'static str> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is missing or not a number");
    }
    let port = port.parse().map_err(|_| "a port is at most 65535")?;
    let bracketed = host
        .strip_prefix('[')
        .map(|rest| rest.strip_suffix(']').unwrap_or(""));
    let host = match bracketed {
        // The resolver judges a scope after `%`.
        Some(v6) if v6.contains(':') => v6,
        Some(_) => return Err("only a v6 address goes in brackets, and both are needed"),
        None if host.is_empty() => DEFAULT_HOST,
        None if host.contains(':') => return Err("a v6 address needs brackets"),
        None if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == ']') => {
            return Err("the host contains a character that is not allowed in host names");
        }
        None => host,
    };
    if host.contains('\0') {
        return Err("the host contains a zero byte");
    }
    Ok(HostPort {
        host: host.to_owned(),
        port,
    })
}

/// An action on an address.
pub(crate) type Attempt = connect::Attempt<HostPort>;

impl Attempt {
    /// Parses the address; an error if there is no runtime, where Tokio would panic.
    pub(super) fn parse(
        action: &'static str,
        address: &dyn fmt::Display,
    ) -> Result<Self, OpenError> {
        let text = address.to_string();
        match parse(&text) {
            Ok(address) => Self::new("tcp", action, address),
            Err(cause) => {
                let object = format!("tcp://{text}");
                let error = OpenError::new(action, object, OpenErrorKind::InvalidName, cause);
                Err(error.with_cure("write host:port, [v6 address]:port or :port"))
            }
        }
    }

    /// Returns an error if there is no runtime, where Tokio would panic.
    pub(crate) fn new(
        scheme: &'static str,
        action: &'static str,
        address: HostPort,
    ) -> Result<Self, OpenError> {
        let attempt = Self {
            action,
            object: format!("{scheme}://{address}"),
            address,
        };
        attempt.in_runtime()?;
        Ok(attempt)
    }

    /// Explains an error of the system that means the same for every call.
    pub(crate) fn failed(&self, source: io::Error) -> OpenError {
        use OpenErrorKind as Kind;
        let said = || source.to_string().into();
        let meaning: Option<Meaning> = match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Some((
                Kind::InUse,
                "another socket uses the port".into(),
                "stop the program that has it (`ss -lntup` shows it), or take another port (0: any \
                 free one)",
            )),
            Some(libc::EADDRNOTAVAIL) => Some((
                Kind::Other,
                "it is not an address of this machine".into(),
                "take one that `ip address` shows, or bind 0.0.0.0 for all",
            )),
            Some(libc::EACCES | libc::EPERM) => Some((
                Kind::PermissionDenied,
                said(),
                "ports below net.ipv4.ip_unprivileged_port_start (1024 unless set) need \
                 CAP_NET_BIND_SERVICE, and a packet filter can forbid the rest",
            )),
            Some(libc::ECONNREFUSED) => Some((
                Kind::Refused,
                "nothing listens there".into(),
                "start the server, or wait until it is there",
            )),
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN) => {
                Some((Kind::Other, said(), "check the address and `ip route`"))
            }
            _ => None,
        };
        self.explained(source, meaning)
    }

    /// Only closed connections hold the port.
    pub(super) fn lingering(&self, source: io::Error) -> OpenError {
        let cause = "closed connections of a server that has exited hold the port (TIME_WAIT)";
        self.error(OpenErrorKind::Lingering, cause)
            .with_cure("wait up to two minutes; set SO_REUSEADDR in that server to avoid this")
            .with_source(source)
    }

    /// Returns every socket address that the host stands for, at least one.
    pub(crate) async fn lookup(&self) -> Result<Vec<SocketAddr>, OpenError> {
        let HostPort { host, port } = &self.address;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        let found = lookup_host((host.as_str(), *port)).await;
        let failed = |source: io::Error| {
            self.error(OpenErrorKind::NotFound, format!("no such host: {source}"))
                .with_cure("check its spelling and this machine's resolver")
                .with_source(source)
        };
        let found: Vec<_> = found.map_err(failed)?.collect();
        if found.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() {
        for text in [":80", "80"] {
            assert_eq!(parse(text).expect(text).host, DEFAULT_HOST);
        }
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
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_address(text in "(\\[[0-9a-f:%]{1,12}\\]|[a-z0-9.-]{0,12})?:?[0-9]{1,5}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()).ok(), Some(address));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn a_socket_address_becomes_an_address_that_prints_like_it(ip: IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(HostPort::from(address).to_string(), address.to_string());
        }
    }
}
