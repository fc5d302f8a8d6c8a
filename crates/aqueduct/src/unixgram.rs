//! Unix datagram sockets: `unixgram:` addresses, and Tokio's sockets as ends.

mod convert;
mod scheme;

pub(crate) use self::scheme::SCHEME;
