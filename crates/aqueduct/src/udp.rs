//! UDP sockets: `udp:` addresses, and Tokio's sockets as ends.

mod convert;
mod scheme;

pub(crate) use self::scheme::SCHEME;

/// The largest datagram: what an IPv4 packet has room for (udp(7)).
const LARGEST: usize = 65_507;
