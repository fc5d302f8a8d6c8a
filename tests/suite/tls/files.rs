//! Certificates for tests: a CA, and what it issues.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// A CA in a directory of its own: `ca.pem`, and a `NAME.pem` and `NAME.key` for each certificate.
pub(crate) struct Authority {
    dir: PathBuf,
    /// Removed at last.
    _temporary: Option<TempDir>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Self::in_dir(dir.path());
        Self {
            _temporary: Some(dir),
            ..authority
        }
    }

    /// One in a directory that others remove.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        std::fs::write(dir.join("ca.pem"), issuer.pem()).expect("written");
        Self {
            dir: dir.to_owned(),
            _temporary: None,
            issuer,
        }
    }

    /// One with the certificates `server` and `client`.
    pub(crate) fn with_both() -> Self {
        let authority = Self::new();
        authority.issue("server", |_| {});
        authority.issue("client", |_| {});
        authority
    }

    /// Issues a certificate for this host, changed by `change`.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.path(&format!("{name}.pem")), issued.pem()).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Options that show the certificate `name`.
    pub(crate) fn showing(&self, name: &str) -> String {
        let dir = self.dir.display();
        format!("cert={dir}/{name}.pem&key={dir}/{name}.key")
    }

    /// Options of a client that verifies the server.
    pub(crate) fn trusting(&self) -> String {
        format!("ca={}", self.path("ca.pem").display())
    }
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

pub(crate) fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2999, 1, 1);
    params.not_after = date_time_ymd(3000, 1, 1);
}
