//! [`TlsError`]: what went wrong between two sides that speak TLS, or should.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::subject::LONGEST;
use crate::connect::{OpenError, OpenErrorKind};

/// An error of TLS: which side refuses what, and what to do.
///
/// [`TlsError::of`] finds it inside the [`io::Error`] of a read or write, and inside that of an
/// [`OpenError`].
///
/// # Examples
///
/// A server that does not speak TLS:
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::tls::{TlsError, TlsErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address: Endpoint = format!("tls://{}", listener.local_addr()?).parse()?;
/// # let ca = tempfile::NamedTempFile::new()?;
/// # let key = rcgen::generate_simple_self_signed(["localhost".into()])?;
/// # std::fs::write(ca.path(), key.cert.pem())?;
/// # let address: Endpoint = format!("{address}?ca={}", ca.path().display()).parse()?;
/// # let server = tokio::spawn(async move {
/// let (stream, _) = listener.accept().await?;
/// stream.try_write(b"220 mail.example.com\r\n")?;
/// #     Ok::<_, std::io::Error>(stream) });
///
/// let error = std::io::Error::from(address.connect().await.unwrap_err());
/// let error = TlsError::of(&error).ok_or("no error of TLS")?;
/// assert_eq!(error.kind(), &TlsErrorKind::Plaintext);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    kind: TlsErrorKind,
    peer: Role,
}

/// The kind of a [`TlsError`].
///
/// # Examples
///
/// ```
/// use aqueduct::tls::TlsErrorKind;
///
/// fn may_pass(kind: &TlsErrorKind) -> bool {
///     matches!(kind, TlsErrorKind::Silent(_) | TlsErrorKind::Torn)
/// }
/// assert!(!may_pass(&TlsErrorKind::Expired));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer does not speak TLS.
    Plaintext,
    /// The peer's certificate has expired.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for other names.
    WrongName,
    /// The issuer of the peer's certificate is not trusted.
    UnknownIssuer,
    /// The client gave no certificate, and the server requires one.
    NoCertificate,
    /// The peer's certificate is refused for another reason.
    Certificate,
    /// The peer refused the connection, or this side's certificate.
    Refused,
    /// The peer did not finish the handshake in time.
    Silent(Duration),
    /// The connection ended without TLS's own end (`close_notify`), so data may be missing.
    Torn,
    /// Another violation of the protocol.
    Protocol,
}

/// The role of one side in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// An error with what only this occurrence has to say.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", self.cause, Cure(self.cure))]
struct Told {
    error: TlsError,
    cause: String,
    cure: &'static str,
}

struct Cure(&'static str);

impl Display for Cure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            cure => write!(f, "; {cure}"),
        }
    }
}

impl TlsError {
    /// Finds it inside an error of opening, reading or writing.
    pub fn of(error: &io::Error) -> Option<&Self> {
        let inner = error.get_ref()?;
        let told = inner
            .downcast_ref::<Told>()
            .or_else(|| inner.downcast_ref::<OpenError>()?.source_as());
        told.map(|it| &it.error)
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> &TlsErrorKind {
        &self.kind
    }

    /// Explains an error of tokio-rustls. Errors of the system stay as they are.
    pub(super) fn explain(error: io::Error, peer: Role) -> io::Error {
        if let Some(tls) = error.get_ref().and_then(|it| it.downcast_ref()) {
            return explain(tls, peer);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return told(
                TlsErrorKind::Torn,
                peer,
                format!(
                    "the {peer} cut the connection: it ended without the end of TLS \
                     (close_notify), so data may be missing"
                ),
                "",
            );
        }
        error
    }

    pub(super) fn silent(waited: Duration, peer: Role) -> io::Error {
        told(
            TlsErrorKind::Silent(waited),
            peer,
            format!("the {peer} did not finish the TLS handshake within {waited:?}"),
            "check that it speaks TLS, and does not wait for the other side to speak first",
        )
    }

    /// A newcomer takes the place of the silent peer.
    pub(super) fn replaced(waited: Duration, most: usize, peer: Role) -> io::Error {
        told(
            TlsErrorKind::Silent(waited),
            peer,
            format!(
                "the {peer} had sent nothing for {waited:?}, and all {most} places for handshakes \
                 were taken"
            ),
            "",
        )
    }

    /// The subject of the peer's certificate has `length` bytes.
    pub(super) fn long_subject(length: usize, peer: Role) -> io::Error {
        told(
            TlsErrorKind::Certificate,
            peer,
            format!(
                "this side refuses the {peer}'s certificate: its subject has {length} bytes, and \
                 at most {LONGEST} are accepted"
            ),
            "issue one with a shorter subject",
        )
    }

    /// The peer has closed before the handshake was done.
    pub(super) fn closed_early(peer: Role) -> io::Error {
        told(
            TlsErrorKind::Torn,
            peer,
            format!("the {peer} closed the connection during the TLS handshake"),
            "look at its log, and check that it speaks TLS",
        )
    }
}

impl Display for TlsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.kind, self.peer)
    }
}

impl std::error::Error for TlsError {}

/// Makes an opening error of one of the handshake.
pub(super) fn open_error(address: &str, source: io::Error) -> OpenError {
    use OpenErrorKind as Kind;
    let Some(told) = source.get_ref().and_then(|it| it.downcast_ref::<Told>()) else {
        return OpenError::system("connect to", address, source);
    };
    let kind = match (source.kind(), &told.error.kind) {
        (_, TlsErrorKind::Silent(waited)) => Kind::TimedOut { waited: *waited },
        (io::ErrorKind::PermissionDenied, _) => Kind::PermissionDenied,
        _ => Kind::Other,
    };
    let (cause, cure) = (told.cause.clone(), told.cure);
    let error = OpenError::new("connect to", address, kind, cause).with_cure(cure);
    match source.into_inner() {
        Some(told) => error.with_source(told),
        None => error,
    }
}

fn told(kind: TlsErrorKind, peer: Role, cause: String, cure: &'static str) -> io::Error {
    use io::ErrorKind as Io;
    let io_kind = match kind {
        TlsErrorKind::Silent(_) => Io::TimedOut,
        TlsErrorKind::Torn => Io::UnexpectedEof,
        TlsErrorKind::Plaintext | TlsErrorKind::Protocol => Io::InvalidData,
        _ => Io::PermissionDenied,
    };
    let error = TlsError { kind, peer };
    io::Error::new(io_kind, Told { error, cause, cure })
}

fn explain(error: &rustls::Error, peer: Role) -> io::Error {
    use rustls::{Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(fault) => certificate(fault, peer),
        Error::NoCertificatesPresented => told(
            TlsErrorKind::NoCertificate,
            peer,
            format!("the {peer} gave no certificate, and this side requires one"),
            "set cert= and key= there, or leave out client-ca= here",
        ),
        Error::AlertReceived(alert) => refused(*alert, peer),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => told(
            TlsErrorKind::Plaintext,
            peer,
            format!("the {peer} does not speak TLS"),
            "use tls: on both sides, or tcp: on both",
        ),
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => told(
            TlsErrorKind::Certificate,
            peer,
            format!("the {peer} sent a handshake message of more than 64 KiB"),
            "shorten its certificate chain",
        ),
        Error::NoApplicationProtocol => told(
            TlsErrorKind::Refused,
            peer,
            format!("the {peer} offers none of this side's application protocols"),
            "make alpn= the same on both sides",
        ),
        Error::PeerIncompatible(_) => told(
            TlsErrorKind::Refused,
            peer,
            format!("the {peer} has no version or cipher of TLS in common with this side: {error}"),
            "update the older one; this side speaks TLS 1.2 and 1.3",
        ),
        other => told(
            TlsErrorKind::Protocol,
            peer,
            format!("the {peer} broke the protocol of TLS: {other}"),
            "",
        ),
    }
}

/// This side refuses the peer's certificate.
fn certificate(fault: &CertificateError, peer: Role) -> io::Error {
    use CertificateError as Fault;
    let (kind, cause, cure) = match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => (
            TlsErrorKind::Expired,
            "has expired".to_owned(),
            "renew it there, and check the clock here",
        ),
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => (
            TlsErrorKind::NotYetValid,
            "is not valid yet".to_owned(),
            "check the clocks of both sides",
        ),
        Fault::NotValidForNameContext {
            expected,
            presented,
        } => (
            TlsErrorKind::WrongName,
            format!(
                "is for {}, not for {}",
                match presented.is_empty() {
                    true => "no name at all".to_owned(),
                    false => presented.join(", "),
                },
                expected.to_str()
            ),
            "connect by one of its names, or say which one to expect with name=",
        ),
        Fault::NotValidForName => (
            TlsErrorKind::WrongName,
            "is for another name".to_owned(),
            "connect by one of its names, or say which one to expect with name=",
        ),
        // Another CA has the same name.
        Fault::UnknownIssuer | Fault::BadSignature => (
            TlsErrorKind::UnknownIssuer,
            "is from a CA that this side does not trust".to_owned(),
            match peer {
                Role::Server => "set ca= to the certificate of that CA",
                Role::Client => "set client-ca= here to the certificate of that CA",
            },
        ),
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => (
            TlsErrorKind::Certificate,
            format!("is not meant for a {peer}"),
            "issue one with that extended key usage",
        ),
        Fault::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            TlsErrorKind::Certificate,
            "is that of a CA itself".to_owned(),
            "issue one with it that has basicConstraints CA:FALSE",
        ),
        other => (
            TlsErrorKind::Certificate,
            format!("cannot be used: {other}"),
            "",
        ),
    };
    told(
        kind,
        peer,
        format!("this side refuses the {peer}'s certificate: it {cause}"),
        cure,
    )
}

/// The peer refused something of this side, as its alert says (RFC 8446, 6.2).
fn refused(alert: AlertDescription, peer: Role) -> io::Error {
    use AlertDescription as Alert;
    let (what, cure) = match alert {
        Alert::CertificateRequired => (
            "requires a certificate of this side".to_owned(),
            "set cert= and key=",
        ),
        Alert::UnknownCA => (
            "does not trust the CA of this side's certificate".to_owned(),
            match peer {
                Role::Server => "use a certificate of its client CA",
                Role::Client => "give it this CA's certificate (ca=)",
            },
        ),
        // So does a server whose own CA has the same name as that of the certificate.
        Alert::DecryptError => (
            "refuses a signature of this side, whose certificate may be of another CA with the \
             same name"
                .to_owned(),
            "use a certificate of the CA that the other side trusts",
        ),
        Alert::CertificateExpired => (
            "refuses this side's certificate: it has expired".to_owned(),
            "renew it",
        ),
        Alert::CertificateRevoked => (
            "refuses this side's certificate: it is revoked".to_owned(),
            "get another one",
        ),
        Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => (
            format!("refuses this side's certificate ({alert:?})"),
            "look at its log for the reason",
        ),
        Alert::NoApplicationProtocol => (
            "speaks none of this side's application protocols".to_owned(),
            "make alpn= the same on both sides",
        ),
        Alert::ProtocolVersion => ("speaks none of TLS 1.2 and 1.3".to_owned(), "update it"),
        Alert::UnrecognisedName => (
            "does not know the name that it was asked for".to_owned(),
            "set name= to one of its names",
        ),
        Alert::HandshakeFailure => (
            "refuses the handshake: no cipher in common, or no certificate of this side".to_owned(),
            "look at its log, and set cert= and key= if it requires a certificate",
        ),
        other => (
            format!("ended TLS with the alert {other:?}"),
            "look at its log",
        ),
    };
    told(
        TlsErrorKind::Refused,
        peer,
        format!("the {peer} {what}"),
        cure,
    )
}
