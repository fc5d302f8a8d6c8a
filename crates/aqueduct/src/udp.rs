//! UDP sockets: `udp:` addresses, and Tokio's sockets as ends.

mod convert;
mod scheme;

pub(crate) use self::scheme::SCHEME;

/// The largest body that fits an IPv4 packet (udp(7)).
const LARGEST: usize = 65_507;
