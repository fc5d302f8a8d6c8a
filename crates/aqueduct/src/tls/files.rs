//! Certificates and keys, read from PEM files of limited size.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::connect::OpenErrorKind;

/// The largest file that is read. A system's bundle of all its CAs is a quarter of that.
const LARGEST_FILE: u64 = 1 << 20;

/// The largest chain that is sent. Peers refuse larger handshake messages (RFC 8446, 4: some
/// accept 16 MiB, rustls 64 KiB).
const LARGEST_CHAIN: usize = 60 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: OpenErrorKind,
    pub(super) cause: String,
    pub(super) cure: &'static str,
    pub(super) source: Option<io::Error>,
}

impl Fault {
    pub(super) fn option(cause: impl Into<String>, cure: &'static str) -> Self {
        Self {
            kind: OpenErrorKind::InvalidOption,
            cause: cause.into(),
            cure,
            source: None,
        }
    }

    fn of_file(option: &str, path: &str, source: io::Error) -> Self {
        let (kind, cure) = match source.kind() {
            io::ErrorKind::NotFound => (OpenErrorKind::NotFound, "check the path"),
            io::ErrorKind::PermissionDenied => (
                OpenErrorKind::PermissionDenied,
                "make the file readable for this user",
            ),
            _ => (OpenErrorKind::Other, ""),
        };
        let cause = format!("{option}={path} cannot be read: {source}");
        let source = Some(source);
        Self {
            kind,
            cause,
            cure,
            source,
        }
    }
}

/// What tells one state of a file from another, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 6]>);

impl Stamp {
    pub(super) fn of(path: &str) -> Self {
        let numbers = |it: Metadata| {
            let (dev, ino, size) = (it.dev(), it.ino(), it.size());
            let inode = [dev, ino, size].map(u64::cast_signed);
            let [dev, ino, size] = inode;
            [dev, ino, size, it.mtime(), it.mtime_nsec(), it.ctime_nsec()]
        };
        Self(std::fs::metadata(path).ok().map(numbers))
    }
}

/// Reads a file of PEM blocks; `option` is the option that names it.
fn read(option: &str, path: &str) -> Result<Vec<u8>, Fault> {
    let failed = |e| Fault::of_file(option, path, e);
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let cause = format!("{option}={path} is not a regular file");
        return Err(Fault::option(cause, "copy the PEM text into a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let cause = format!("{option}={path} has more than 1 MiB");
        let cure = "name a PEM file that has only the certificates or the key";
        return Err(Fault::option(cause, cure));
    }
    Ok(bytes)
}

fn damaged(option: &str, path: &str, error: &pem::Error) -> Fault {
    match error {
        pem::Error::NoItemsFound => {
            let wanted = if option == "key" {
                "private key"
            } else {
                "certificate"
            };
            let cause = format!("{option}={path} has no {wanted} in PEM form");
            Fault::option(
                cause,
                "a PEM block begins with -----BEGIN; convert DER with openssl",
            )
        }
        other => Fault::option(format!("{option}={path} is damaged: {other}"), ""),
    }
}

/// Reads the certificates of a file, at least one.
pub(super) fn certificates(
    option: &str,
    path: &str,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| damaged(option, path, &e))?;
    match found.is_empty() {
        true => Err(damaged(option, path, &pem::Error::NoItemsFound)),
        false => Ok(found),
    }
}

/// Reads a chain that is shown to a peer.
pub(super) fn chain(path: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain = certificates("cert", path)?;
    if chain.iter().map(|it| it.len()).sum::<usize>() > LARGEST_CHAIN {
        let cause = format!("cert={path} has more than 60 KiB of certificates");
        let cure = "leave only this side's certificate and those between it and its CA";
        return Err(Fault::option(cause, cure));
    }
    Ok(chain)
}

/// Reads the first private key of a file. Encrypted keys are not supported.
pub(super) fn key(option: &str, path: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = read(option, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| {
        if memchr::memmem::find(&bytes, b"ENCRYPTED").is_some() {
            let cause = format!("the private key in {option}={path} is encrypted");
            return Fault::option(cause, "decrypt it: openssl pkey -in FILE -out NEW");
        }
        match (option, e) {
            ("cert", pem::Error::NoItemsFound) => {
                let cause = format!("cert={path} has no private key");
                Fault::option(cause, "name the file that has it with key=")
            }
            (_, e) => damaged(option, path, &e),
        }
    })
}

/// Reads the CAs of a file.
pub(super) fn roots(option: &str, path: &str) -> Result<RootCertStore, Fault> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(option, path)? {
        store.add(certificate).map_err(|e| {
            let cause = format!("{option}={path} has a certificate that cannot be used: {e}");
            Fault::option(cause, "")
        })?;
    }
    Ok(store)
}

/// Reads the CAs that this system trusts.
pub(super) fn system_roots() -> Result<RootCertStore, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|it| format!(": {it}"));
        let cause = format!(
            "this system has no certificates of CAs{}",
            why.unwrap_or_default()
        );
        let cure = "install them (package ca-certificates), or name the CA with ca=";
        return Err(Fault::option(cause, cure));
    }
    Ok(store)
}
