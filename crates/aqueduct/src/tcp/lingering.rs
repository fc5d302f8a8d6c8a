//! Whether only closed connections hold a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether nothing but closed connections of exited processes keeps `at` from being bound.
///
/// A server without `SO_REUSEADDR` that closes a connection first leaves such connections behind
/// for a minute (`TIME_WAIT`), or until the peer closes as well (`FIN_WAIT2`). Read from
/// `/proc/net/tcp` (proc_pid_net(5)). A socket that is bound and does not listen is in neither
/// file, and then there is nothing else either.
pub(super) fn only_closed_connections(at: SocketAddr) -> bool {
    let mut found = false;
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for entry in text.lines().skip(1).filter_map(Entry::parse) {
            if !entry.conflicts(at) {
                continue;
            }
            if !entry.closed {
                return false;
            }
            found = true;
        }
    }
    found
}

struct Entry {
    local: SocketAddr,
    /// It belongs to no process any more.
    closed: bool,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let (ip, port) = words.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING (`net/tcp_states.h`).
        let closing = ["04", "05", "06", "09", "0B"].contains(words.get(3)?);
        Some(Self {
            local: SocketAddr::new(ip_of(ip)?, port),
            closed: closing && *words.get(9)? == "0",
        })
    }

    fn conflicts(&self, at: SocketAddr) -> bool {
        let (ours, theirs) = (at.ip(), self.local.ip());
        let any = ours.is_unspecified() || theirs.is_unspecified();
        self.local.port() == at.port() && (any || ours == theirs)
    }
}

/// Words of 32 bits in the machine's byte order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}
