//! `tls://host:port`: the address of a TLS server, and how it is opened.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::accept::Accepting;
use super::config::{Loaded, Settings};
use super::error::open_error;
use super::files::Fault;
use super::halves::{connection, stream_of};
use super::wire::{Which, Wire};
use crate::address::{AddressProblem, Capabilities, HostPort, Printer, Query, escape};
use crate::connect::{
    Asked, Bound, Connection, End, Endpoint, Mechanism, OpenError, Opening, Place, Scheme, Served,
};
use crate::tcp;

/// How long a server may take for the handshake.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) static SCHEME: Scheme = Scheme {
    name: "tls",
    form: "tls://host:port",
    summary: "TLS over TCP; a server needs cert and key",
    options: &[
        "alpn",
        "ca",
        "cert",
        "client-ca",
        "frame",
        "key",
        "name",
        "nodelay",
    ],
    synonyms: &["ssl", "https", "tcps"],
    parse: |rest, query| Ok(Arc::new(Tls::parse(rest, query)?)),
};

/// One address.
#[derive(Debug)]
struct Tls {
    /// The socket, as `tcp:` has it.
    socket: Arc<dyn Mechanism>,
    host: String,
    settings: Settings,
    for_clients: Arc<Loaded<ClientConfig>>,
    for_servers: Arc<Loaded<ServerConfig>>,
}

/// The value of an option, as text.
struct Text(String);

impl std::str::FromStr for Text {
    type Err = AddressProblem;

    fn from_str(value: &str) -> Result<Self, AddressProblem> {
        Ok(Self(value.to_owned()))
    }
}

/// Escaped, for an address.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaped = String::new();
        escape::encode(self.0.as_bytes(), b"&", &mut escaped);
        f.write_str(&escaped)
    }
}

fn text(
    query: &Query,
    option: &'static str,
    expected: &'static str,
    valid: impl Fn(&str) -> bool,
) -> Result<Option<String>, AddressProblem> {
    let value = query.parsed::<Text>(option)?.map(|it| it.0);
    match value {
        Some(value) if !valid(&value) => Err(AddressProblem::InvalidValue {
            option,
            value,
            expected,
            nearest: None,
        }),
        value => Ok(value),
    }
}

const FILE: &str = "the path of a PEM file";
const NAME: &str = "a host name or an IP address that the server's certificate has";
const ALPN: &str = "names of protocols, separated by commas, as in alpn=h2,http/1.1";

impl Tls {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let file = |option| {
            text(query, option, FILE, |it| {
                !it.is_empty() && !it.contains('\0')
            })
        };
        let name = |it: &str| ServerName::try_from(it).is_ok();
        let alpn = |it: &str| it.split(',').all(|it| (1..=255).contains(&it.len()));
        let alpn = text(query, "alpn", ALPN, alpn)?;
        let settings = Settings {
            alpn: alpn.map_or_else(Vec::new, |it| it.split(',').map(str::to_owned).collect()),
            ca: file("ca")?,
            cert: file("cert")?,
            client_ca: file("client-ca")?,
            key: file("key")?,
            name: text(query, "name", NAME, name)?,
        };
        Ok(Self {
            socket: (tcp::SCHEME.parse)(rest, query)?,
            host: HostPort::parse(rest)?.host,
            settings,
            for_clients: Arc::new(Loaded::for_clients()),
            for_servers: Arc::new(Loaded::for_servers()),
        })
    }

    /// The name that the server's certificate must have.
    fn server_name(&self) -> Result<ServerName<'static>, Fault> {
        let host = self.settings.name.as_deref().unwrap_or(&self.host);
        // The zone of an IPv6 address is this machine's own matter.
        let host = host.split('%').next().unwrap_or(host);
        ServerName::try_from(host.to_owned())
            .map_err(|_| Fault::option(format!("no certificate can be for {host}"), "set name="))
    }

    /// The address of a bound socket, for clients: a host that was given by its name stays the
    /// name to expect.
    fn local(&self, socket: &Endpoint) -> Option<Endpoint> {
        let address = socket.to_string();
        let (scheme, options) = address.split_once('?').unwrap_or((&address, ""));
        let rest = scheme.strip_prefix("tcp://")?;
        let options = (!options.is_empty()).then_some(options.as_bytes());
        let query = Query::parse("tls", SCHEME.options, options).ok()?;
        let mut local = Self::parse(rest.as_bytes(), &query).ok()?;
        local.settings = self.settings.clone();
        if local.settings.name.is_none() && self.host.parse::<std::net::IpAddr>().is_err() {
            local.settings.name = Some(self.host.clone());
        }
        Some(Endpoint::from_parts(&SCHEME, Arc::new(local)))
    }
}

impl Mechanism for Tls {
    fn print(&self, printer: &mut Printer) {
        let Settings {
            alpn,
            ca,
            cert,
            client_ca,
            key,
            name,
        } = &self.settings;
        let alpn = (!alpn.is_empty()).then(|| alpn.join(","));
        for (option, value) in [
            ("alpn", &alpn),
            ("ca", ca),
            ("cert", cert),
            ("client-ca", client_ca),
            ("key", key),
            ("name", name),
        ] {
            printer.option(option, value.as_deref().map(Escaped));
        }
        self.socket.print(printer);
    }

    fn capabilities(&self) -> Capabilities {
        self.socket.capabilities()
    }

    fn place(&self, end: End) -> Option<Place> {
        self.socket.place(end)
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let unfit = |fault| refused("connect to", &asked, fault);
            let config = self.for_clients.get(&self.settings).map_err(unfit)?;
            let name = self.server_name().map_err(unfit)?;
            let named = |error: OpenError| error.with_object(asked.address);
            let socket = self.socket.connect(asked).await.map_err(named)?;
            let (stream, peer) = stream_of(socket).map_err(|e| asked.failed(e))?;
            let patience = match asked.options.wait {
                Some(limit) if !limit.is_zero() => limit.min(PATIENCE),
                _ => PATIENCE,
            };
            let wire = Wire::client(stream, config, name, patience);
            poll_fn(|cx| wire.poll_open(Which::Read, cx))
                .await
                .map_err(|e| open_error(asked.address, e))?;
            tracing::debug!(address = %asked.address, "TLS is established");
            let framing = asked.options.framing.clone();
            Ok(connection(wire, peer, framing).polled(asked.options.poll_for))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let unfit = |fault| refused("bind", &asked, fault);
            self.for_servers.get(&self.settings).map_err(unfit)?;
            let named = |error: OpenError| error.with_object(asked.address);
            let served = self.socket.bind(asked).await.map_err(named)?;
            let activation_name = served.bound.activation_name.clone();
            let local = served.local.and_then(|it| self.local(&it));
            let framing = asked.options.framing.clone();
            let certificates = (self.settings.clone(), Arc::clone(&self.for_servers));
            let accepting = Accepting::new(served.bound, certificates, framing);
            let mut bound = Bound::new(accepting, asked.address, asked.options.poll_for);
            bound.activation_name = activation_name;
            Ok(Served { bound, local })
        })
    }
}

/// The options or their files cannot be used.
fn refused(action: &'static str, asked: &Asked<'_>, fault: Fault) -> OpenError {
    let error = OpenError::new(action, asked.address, fault.kind, fault.cause);
    let error = error.with_cure(fault.cure);
    match fault.source {
        Some(source) => error.with_source(source),
        None => error,
    }
}
