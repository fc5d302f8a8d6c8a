//! The options of a connection to a server: credentials and TLS, and the errors of making one.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_nats::rustls::crypto::{CryptoProvider, ring};
use async_nats::rustls::{AlertDescription, CertificateError, Error as TlsError};
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions};

use super::address::{Address, User};
use super::connection::{CONNECT, MISSING, Target};
use crate::connect::{OpenError, OpenErrorKind};

/// How often the server is asked whether it is there. Three silent pings break the connection.
const PING: Duration = Duration::from_secs(10);
const TLS: &str = "check tls, ca, cert and key of the address against the server's configuration";

impl Target {
    pub(super) async fn options(&self) -> Result<ConnectOptions, OpenError> {
        let Address {
            user, creds, nkey, ..
        } = &*self.address;
        let mut options = ConnectOptions::new()
            .name("aqueduct")
            .max_reconnects(1)
            .ignore_discovered_servers()
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .subscription_capacity(self.address.backlog());
        options = match user {
            Some(User::Password(name, password)) => {
                options.user_and_password(name.clone(), password.clone())
            }
            Some(User::Token(token)) => options.token(token.clone()),
            None => options,
        };
        if let Some(path) = creds {
            let read = options.credentials_file(path).await;
            options = read.map_err(|error| self.unread(path, error))?;
        }
        if let Some(path) = nkey {
            let seed = tokio::fs::read_to_string(path).await;
            let seed = seed.map_err(|error| self.unread(path, error))?;
            options = options.nkey(seed.trim().to_owned());
        }
        self.with_tls(options).await
    }

    async fn with_tls(&self, mut options: ConnectOptions) -> Result<ConnectOptions, OpenError> {
        let Address {
            tls, ca, cert, key, ..
        } = &*self.address;
        if tls.is_none() && [ca, cert, key].iter().all(|it| it.is_none()) {
            return Ok(options);
        }
        if cert.is_some() != key.is_some() {
            let cause = "a certificate needs its key, and a key its certificate";
            let error = self.error(OpenErrorKind::InvalidOption, cause);
            return Err(error.with_cure("give both cert= and key="));
        }
        // The client does not name the file that it cannot read.
        for path in [ca, cert, key].into_iter().flatten() {
            let read = tokio::fs::read(path).await;
            read.map_err(|error| self.unread(path, error))?;
        }
        if let Some(path) = ca {
            options = options.add_root_certificates(path.clone());
        }
        if let (Some(cert), Some(key)) = (cert, key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        if CryptoProvider::get_default().is_none() {
            // The client installs the only one there is, and panics where a program has several.
            let _ = ring::default_provider().install_default();
        }
        Ok(options.require_tls(tls.unwrap_or(true)))
    }

    fn unread(&self, path: &Path, error: io::Error) -> OpenError {
        let cause = format!("cannot read {}: {error}", path.display());
        let error = self
            .error(OpenErrorKind::InvalidOption, cause)
            .with_source(error);
        error.with_cure("check the path and its permissions")
    }

    pub(super) fn unconnected(&self, error: ConnectError) -> OpenError {
        use OpenErrorKind as Kind;
        if let Some((kind, cause, cure)) = tls_error(&error).map(explain) {
            return self.error(kind, cause).with_cure(cure).with_source(error);
        }
        let (kind, cure) = match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => (
                Kind::PermissionDenied,
                "check the user, password, creds or nkey of the address",
            ),
            ConnectErrorKind::Dns => (Kind::NotFound, "check the host's spelling"),
            ConnectErrorKind::Tls => (Kind::Mismatch, TLS),
            ConnectErrorKind::ServerParse => (Kind::InvalidName, "check the host and the port"),
            ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => (Kind::Refused, MISSING),
            ConnectErrorKind::TimedOut => return self.silent(CONNECT).with_source(error),
        };
        self.error(kind, error.to_string())
            .with_cure(cure)
            .with_source(error)
    }
}

/// The error of TLS behind one of connecting. The client takes it for one of the system.
fn tls_error(error: &ConnectError) -> Option<&TlsError> {
    let source = std::error::Error::source(error)?;
    let inner = source.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref()
}

fn explain(error: &TlsError) -> (OpenErrorKind, String, &'static str) {
    use CertificateError as Cert;
    use OpenErrorKind as Kind;
    let cure = match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            Cert::UnknownIssuer => {
                "name the CA of the server's certificate, such as ca=/etc/ssl/ca.pem"
            }
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
                "connect by a name that the server's certificate has"
            }
            Cert::Expired
            | Cert::ExpiredContext { .. }
            | Cert::NotValidYet
            | Cert::NotValidYetContext { .. } => {
                "renew the server's certificate, or set the clock of this machine"
            }
            _ => TLS,
        },
        TlsError::AlertReceived(alert) => {
            let cause = format!("the server refused the TLS connection: {alert:?}");
            let cure = match alert {
                AlertDescription::CertificateRequired => {
                    "name a client certificate with cert= and key="
                }
                AlertDescription::CertificateExpired => {
                    "renew the client's certificate, or set the clock of the server"
                }
                _ => "check the client's certificate (cert= and key=) and its CA",
            };
            return (Kind::PermissionDenied, cause, cure);
        }
        _ => TLS,
    };
    (Kind::Mismatch, format!("TLS failed: {error}"), cure)
}
