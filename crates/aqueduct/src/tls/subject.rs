//! The subject of a peer's certificate, as text that is safe to log and to compare.

use std::fmt::Write;
use std::sync::Arc;

use tokio_rustls::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::der::Decode;

/// The longest subject, as text. RFC 5280 allows 64 characters for most of its parts (appendix A.1).
pub(super) const LONGEST: usize = 4 * 1024;

/// Returns the subject of the peer's certificate, if it gave one. The error is its length, if that is
/// more than [`LONGEST`].
pub(super) fn subject_of<T>(stream: &TlsStream<T>) -> Result<Option<Arc<str>>, usize> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|it| it.first());
    let Some(certificate) = certificate else {
        return Ok(None);
    };
    let subject = text(certificate);
    match subject.len() {
        ..=LONGEST => Ok(Some(subject.into())),
        length => Err(length),
    }
}

/// The subject of a certificate as RFC 4514 writes it, such as `CN=alice,O=Example`.
fn text(certificate: &CertificateDer<'_>) -> String {
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else {
        // rustls, which has verified it, is less strict.
        return String::new();
    };
    let mut text = String::new();
    for char in certificate.tbs_certificate().subject().to_string().chars() {
        // Separators and ASCII control characters are escaped already.
        match char.is_control() || is_format(char) {
            true => {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    // A `String` takes everything.
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            false => text.push(char),
        }
    }
    text
}

/// Characters that are invisible, or that change how the text around them looks: line and paragraph
/// separators, and most of Unicode's category Cf.
fn is_format(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}
