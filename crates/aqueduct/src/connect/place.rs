//! [`Place`]: what an address leads to, for comparing two addresses.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Which end of an address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Sender,
    Receiver,
}

/// What an address leads to, whatever its spelling and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The device and inode of a file.
    File(u64, u64),
    /// The path of a file that does not exist yet.
    Missing(PathBuf),
    /// A name in a namespace other than the file system.
    Name(&'static str, Vec<u8>),
    /// A port of a host, in the port space of a protocol.
    Port {
        protocol: &'static str,
        host: String,
        port: u16,
    },
}

impl Place {
    pub(crate) fn path(path: &Path) -> Self {
        if let Ok(there) = fs::metadata(path) {
            return Self::File(there.dev(), there.ino());
        }
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
        let name = path.file_name().unwrap_or(OsStr::new(""));
        Self::Missing(parent.map_or_else(|_| path.to_owned(), |it| it.join(name)))
    }

    /// Returns the pipe or file behind a descriptor. Anything else, such as a terminal, does not
    /// return what is written to it.
    pub(crate) fn descriptor(number: i32) -> Option<Self> {
        let there = fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        let kind = there.file_type();
        (kind.is_fifo() || kind.is_file()).then(|| Self::File(there.dev(), there.ino()))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        let (
            Self::Port {
                protocol,
                host,
                port,
            },
            Self::Port {
                protocol: other_protocol,
                host: other_host,
                port: other_port,
            },
        ) = (self, other)
        else {
            return self == other;
        };
        // Port 0 is a different one each time.
        if protocol != other_protocol || port != other_port || *port == 0 {
            return false;
        }
        host.eq_ignore_ascii_case(other_host)
            || meet(&addresses(host, *port), &addresses(other_host, *port))
    }
}

fn addresses(host: &str, port: u16) -> Vec<IpAddr> {
    let found = (host, port).to_socket_addrs();
    found.map_or_else(|_| Vec::new(), |all| all.map(|it| it.ip()).collect())
}

fn meet(these: &[IpAddr], those: &[IpAddr]) -> bool {
    let any = |them: &[IpAddr], others: &[IpAddr]| {
        them.iter().any(IpAddr::is_unspecified) && others.iter().any(is_ours)
    };
    these.iter().any(|it| those.contains(it)) || any(these, those) || any(those, these)
}

/// Whether an address belongs to this machine: no other can be bound.
fn is_ours(address: &IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(*address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use crate::Endpoint;

    fn leads_to(to: &str, from: &str) -> bool {
        let parse = |it: &str| it.parse::<Endpoint>().unwrap();
        parse(to).leads_to(&parse(from))
    }

    #[test]
    #[cfg_attr(miri, ignore = "it looks at files")]
    fn a_place_is_recognised_by_any_of_its_paths() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink(at("d"), at("link")).unwrap();
        std::fs::write(at("d/there"), "").unwrap();
        for name in ["there", "missing"] {
            let (direct, linked) = (at(&format!("d/{name}")), at(&format!("link/{name}")));
            let (fifo, unix) = (format!("fifo:{direct}"), format!("unix:{direct}"));
            assert!(leads_to(&fifo, &format!("fifo:{linked}?mode=600")));
            assert!(leads_to(&unix, &format!("unixpacket:{linked}")));
        }
        let (a, b) = (at("d/a"), at("d/b"));
        assert!(!leads_to(&format!("unix:{a}"), &format!("unix:{b}")));
    }

    #[test]
    fn names_are_compared_without_options() {
        assert!(leads_to("unix:@a", "unix:@a?mode=600"));
        assert!(!leads_to("unix:@a", "unix:@b"));
        assert!(leads_to("mq:/jobs?capacity=4", "mq:///jobs?priority=3"));
        assert!(!leads_to("mq:/jobs", "mq:/failed"));
        assert!(!leads_to("fifo:/tmp/a", "mq:/a"));
        assert!(leads_to("fd:7", "fd:7"));
        assert!(!leads_to("exec:cat", "exec:cat"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it looks up addresses")]
    fn a_port_is_recognised_by_any_address_of_this_machine() {
        let at = |host: &str| format!("tcp://{host}:7000");
        assert!(leads_to(
            &at("127.0.0.1"),
            "tcp://127.0.0.1:7000?nodelay=false"
        ));
        assert!(leads_to(&at("0.0.0.0"), &at("127.0.0.1")));
        assert!(leads_to(&at("localhost"), &at("127.0.0.1")));
        assert!(!leads_to(&at("127.0.0.1"), "tcp://127.0.0.1:7001"));
        // Reserved for documentation: no host has it (RFC 5737).
        assert!(!leads_to(&at("0.0.0.0"), &at("192.0.2.1")));
        assert!(!leads_to("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"));
    }
}
