//! Whether two addresses are one place.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use aqueduct::Endpoint;
use aqueduct::endpoint::Tcp;

/// Whether what is sent to `to` comes out of `from`: the two lead to one queue, FIFO or socket,
/// whatever their spelling and options.
pub(crate) fn same(from: &Endpoint, to: &Endpoint) -> bool {
    match (from, to) {
        (Endpoint::Mq(a), Endpoint::Mq(b)) => a.name() == b.name(),
        (Endpoint::Tcp(a), Endpoint::Tcp(b)) => leads_to(a, b),
        // One descriptor both ways, as of a socket.
        (Endpoint::Fd(a), Endpoint::Fd(b)) if a == b => true,
        _ => match (file(from, 0), file(to, 1)) {
            (Some(from), Some(to)) => from == to,
            _ => false,
        },
    }
}

/// What a name in the file system stands for.
#[derive(PartialEq, Eq)]
enum File {
    /// Device and inode of what is there.
    There(u64, u64),
    /// Where it will be made.
    Missing(PathBuf),
    Abstract(Vec<u8>),
}

/// `stdio`: which descriptor is meant by `stdio:`.
fn file(endpoint: &Endpoint, stdio: u32) -> Option<File> {
    match endpoint {
        Endpoint::Fifo(fifo) => Some(named(fifo.path())),
        Endpoint::Unix(unix) | Endpoint::UnixPacket(unix) => match unix.path() {
            Some(path) => Some(named(path)),
            None => {
                // Behind the scheme, without the options.
                let text = endpoint.to_string();
                let name = text.split_once(":@")?.1;
                let name = name.split('?').next()?;
                Some(File::Abstract(name.as_bytes().to_vec()))
            }
        },
        Endpoint::Fd(fd) => inherited(fd.number()),
        Endpoint::Stdio => inherited(stdio),
        _ => None,
    }
}

fn named(path: &Path) -> File {
    if let Ok(there) = fs::metadata(path) {
        return File::There(there.dev(), there.ino());
    }
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
    let name = path.file_name().unwrap_or(OsStr::from_bytes(b""));
    File::Missing(parent.map_or_else(|_| path.to_owned(), |it| it.join(name)))
}

/// A terminal or device gives back nothing of what is written to it.
fn inherited(number: u32) -> Option<File> {
    let there = fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
    let kind = there.file_type();
    (kind.is_fifo() || kind.is_file()).then(|| File::There(there.dev(), there.ino()))
}

/// Whether who connects to `to` finds who is bound to `from`, or the other way round.
fn leads_to(from: &Tcp, to: &Tcp) -> bool {
    if from.port() != to.port() || from.port() == 0 {
        return false;
    }
    if from.host().eq_ignore_ascii_case(to.host()) {
        return true;
    }
    let addresses = |it: &Tcp| -> Vec<IpAddr> {
        let found = (it.host(), it.port()).to_socket_addrs();
        found.map_or_else(|_| Vec::new(), |all| all.map(|it| it.ip()).collect())
    };
    let (from, to) = (addresses(from), addresses(to));
    let any = |them: &[IpAddr], others: &[IpAddr]| {
        them.iter().any(IpAddr::is_unspecified) && others.iter().any(is_ours)
    };
    from.iter().any(|it| to.contains(it)) || any(&from, &to) || any(&to, &from)
}

/// Whether an address is one of this machine: only such can be bound.
fn is_ours(address: &IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(*address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_same(from: &str, to: &str) -> bool {
        same(&from.parse().unwrap(), &to.parse().unwrap())
    }

    #[test]
    fn one_place_is_known_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink(at("d"), at("link")).unwrap();
        fs::write(at("d/there"), "").unwrap();
        for name in ["there", "missing"] {
            let (direct, linked) = (at(&format!("d/{name}")), at(&format!("link/{name}")));
            assert!(are_same(
                &format!("fifo:{direct}"),
                &format!("fifo:{linked}?mode=600")
            ));
            assert!(are_same(
                &format!("unix:{direct}"),
                &format!("unixpacket:{linked}")
            ));
        }
        assert!(!are_same(
            &format!("unix:{}", at("d/a")),
            &format!("unix:{}", at("d/b"))
        ));
        assert!(
            are_same("unix:@a", "unix:@a?mode=600")
                || "unix:@a?mode=600".parse::<Endpoint>().is_err()
        );
        assert!(!are_same("unix:@a", "unix:@b"));
        assert!(are_same("mq:/jobs?capacity=4", "mq:///jobs?priority=3"));
        assert!(!are_same("mq:/jobs", "mq:/failed"));
        assert!(!are_same("fifo:/tmp/a", "mq:/a"));
    }

    #[test]
    fn one_port_is_known_by_any_address_of_this_machine() {
        assert!(are_same(
            "tcp://127.0.0.1:7000",
            "tcp://127.0.0.1:7000?nodelay=false"
        ));
        assert!(are_same("tcp://0.0.0.0:7000", "tcp://127.0.0.1:7000"));
        assert!(are_same("tcp://localhost:7000", "tcp://127.0.0.1:7000"));
        assert!(!are_same("tcp://127.0.0.1:7000", "tcp://127.0.0.1:7001"));
        // For documentation: nobody has it (RFC 5737).
        assert!(!are_same("tcp://0.0.0.0:7000", "tcp://192.0.2.1:7000"));
        assert!(!are_same("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"));
    }
}
