//! [`Settings`]: the options of an address, and what rustls is told of them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, ServerConfig};

use super::files::{self, Fault, Stamp};

/// The options that both sides of an address may have. Paths are of PEM files.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) alpn: Vec<String>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) key: Option<String>,
    pub(super) name: Option<String>,
}

/// The cryptography, named rather than left to what else is linked.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn unusable(error: rustls::Error) -> Fault {
    match error {
        rustls::Error::InconsistentKeys(_) => Fault::option(
            "the private key does not belong to the certificate",
            "check cert= and key=: the certificate of this side comes first in its file",
        ),
        other => Fault::option(format!("certificate or key cannot be used: {other}"), ""),
    }
}

impl Settings {
    /// Where the private key is: the option that names the file, and its path.
    fn key(&self) -> Option<(&'static str, &str)> {
        let key = self.key.as_deref().map(|it| ("key", it));
        key.or_else(|| self.cert.as_deref().map(|it| ("cert", it)))
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        self.alpn.iter().map(|it| it.clone().into_bytes()).collect()
    }

    fn client(&self) -> Result<ClientConfig, Fault> {
        let roots = match &self.ca {
            Some(path) => files::roots("ca", path)?,
            None => files::system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots);
        let mut config = match (&self.cert, self.key()) {
            (Some(cert), Some((option, key))) => builder
                .with_client_auth_cert(files::chain(cert)?, files::key(option, key)?)
                .map_err(unusable)?,
            (None, Some(_)) => {
                return Err(Fault::option(
                    "key= needs cert=",
                    "name the file of the certificate",
                ));
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn();
        Ok(config)
    }

    fn server(&self) -> Result<ServerConfig, Fault> {
        let (Some(cert), Some((option, key))) = (&self.cert, self.key()) else {
            return Err(Fault::option(
                "a server needs a certificate",
                "add ?cert=FILE&key=FILE to the address",
            ));
        };
        if self.ca.is_some() && self.client_ca.is_none() {
            return Err(Fault::option(
                "ca= is for clients, which verify the server with it",
                "use client-ca= to require a certificate of clients",
            ));
        }
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.client_ca {
            Some(path) => {
                let roots = Arc::new(files::roots("client-ca", path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build();
                builder.with_client_cert_verifier(verifier.map_err(|e| {
                    Fault::option(format!("client-ca={path} cannot be used: {e}"), "")
                })?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(files::chain(cert)?, files::key(option, key)?)
            .map_err(unusable)?;
        config.alpn_protocols = self.alpn();
        // A ticket is data that a client which only sends never reads. Closing a socket with
        // unread data resets the connection, and what the client has sent last may be lost.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let paths = [&self.ca, &self.cert, &self.client_ca, &self.key];
        paths
            .into_iter()
            .flatten()
            .map(|it| Stamp::of(it))
            .collect()
    }
}

/// What is made of the files of an address, until they change.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    current: Mutex<Option<(Vec<Stamp>, Arc<T>)>>,
    load: fn(&Settings) -> Result<T, Fault>,
}

impl Loaded<ClientConfig> {
    pub(super) fn for_clients() -> Self {
        Self::new(Settings::client)
    }
}

impl Loaded<ServerConfig> {
    pub(super) fn for_servers() -> Self {
        Self::new(Settings::server)
    }
}

impl<T> Loaded<T> {
    fn new(load: fn(&Settings) -> Result<T, Fault>) -> Self {
        let current = Mutex::new(None);
        Self { current, load }
    }

    /// Returns what the files say now. If changed files cannot be used, such as a certificate
    /// whose key is still being written, that is logged and the previous ones stay in use.
    pub(super) fn get(&self, settings: &Settings) -> Result<Arc<T>, Fault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: one that changes meanwhile is read again the next time.
        let stamps = settings.stamps();
        if let Some((known, config)) = &*current
            && *known == stamps
        {
            return Ok(Arc::clone(config));
        }
        match ((self.load)(settings), &mut *current) {
            (Ok(config), current) => {
                if current.is_some() {
                    tracing::info!(target: "aqueduct::tls", "read changed certificates");
                }
                let config = Arc::new(config);
                *current = Some((stamps, Arc::clone(&config)));
                Ok(config)
            }
            (Err(fault), Some((known, config))) => {
                // Said once for each state of the files.
                *known = stamps;
                let Fault { cause, cure, .. } = &fault;
                tracing::warn!(
                    target: "aqueduct::tls",
                    "changed certificates cannot be used, and the previous ones stay: {cause}; {cure}"
                );
                Ok(Arc::clone(config))
            }
            (Err(fault), None) => Err(fault),
        }
    }
}
