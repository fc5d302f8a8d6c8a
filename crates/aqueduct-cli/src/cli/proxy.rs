//! Arguments of `aqueduct proxy`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::address::Address;
use super::link::{Clients, Link};

const EXAMPLES: &str = "\
Examples:
  aqueduct proxy tcp://127.0.0.1:6379 unix:/run/redis.sock
  aqueduct proxy unix:/tmp/db tcp://db.lan:5432 --max-connections 20
  aqueduct proxy unixpacket:/tmp/p tcp://127.0.0.1:7000 --frame length
  aqueduct proxy tcp://127.0.0.1:7000 'exec:sort -u'    # one per client

Each client of FROM gets its own connection to TO. Bytes pass unchanged in both
directions; the end of one direction leaves the other open, and a reset is
passed on. If only one of the two addresses keeps message boundaries, --frame
splits the other's bytes into messages.

FROM is bound at once. A client waits for TO as long as --wait allows; if TO has
not appeared by then, its connection is reset and the proxy goes on. A
connection may be silent for any time unless --first-timeout or --idle-timeout
is given.

With --tee both directions are recorded, with priority 0 from FROM to TO and 1
back; aqueduct::record documents the format.

A TCP port is open to every user of this host, and with 0.0.0.0 to other hosts:
a proxy from TCP to a Unix socket bypasses the socket's mode.

Ctrl-C, SIGTERM and SIGHUP: no more clients are accepted, and those that are
connected get at most 10 seconds. A second signal ends at once.";

/// For a proxy, traffic in the other direction counts too.
const IDLE_TIMEOUT: &str = "\
Disconnect a client and its server when nothing passes in either direction for this long: a duration, or \
forever [default: forever]";

/// Each takes another descriptor for its other side.
const MAX_CONNECTIONS: &str = "\
How many clients at a time; others wait [default: as many as there are file descriptors for]";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("max_connections", |arg| arg.help(MAX_CONNECTIONS)))]
#[command(mut_arg("idle_timeout", |arg| arg.help(IDLE_TIMEOUT)))]
pub(crate) struct ProxyArgs {
    /// The address where clients connect, such as tcp://127.0.0.1:6379.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) from: OsString,
    /// The address to connect them to, such as unix:/run/redis.sock.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) to: OsString,
    /// Connect to FROM instead of binding it, and serve this one connection.
    #[arg(long)]
    pub(crate) connect: bool,
    /// Bind TO instead of connecting to it: each client is joined to the next client of TO.
    #[arg(long)]
    pub(crate) bind: bool,
    /// Record both directions with their times to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) tee: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) clients: Clients,
    #[command(flatten)]
    pub(crate) link: Link,
}
