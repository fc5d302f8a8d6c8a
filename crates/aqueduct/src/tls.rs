//! TLS over TCP: `tls://host:port`, with certificates for servers and clients.
//!
//! TLS 1.2 and 1.3 by [rustls](https://docs.rs/rustls), for all that works over `tcp:`: the four
//! verbs, services, relays, reconnecting. The cargo feature `tls` adds it; it is neither among the
//! default features nor in `full`.
//!
//! # Options
//!
//! Files are in PEM form and at most 1 MiB. An address with the options of both sides serves both:
//! each side uses its own.
//!
//! | option | for | value |
//! |---|---|---|
//! | `cert` | server, client | file with this side's certificate first, then those between it and its CA |
//! | `key` | server, client | file with the private key, not encrypted; by default it is looked for in `cert` |
//! | `ca` | client | file with the CAs of servers; by default those that the system trusts |
//! | `name` | client | the name that the server's certificate must have; by default the host |
//! | `client-ca` | server | file with the CAs of clients; clients without a certificate from one of these are refused |
//! | `alpn` | server, client | names of application protocols, separated by commas, the preferred one first |
//! | `nodelay`, `frame` | server, client | as with `tcp:` |
//!
//! A server needs `cert`. One with `ca` but without `client-ca` is refused, because `ca` does not
//! make it verify anybody. Where both sides have `alpn` and nothing in common, the server refuses
//! the connection.
//!
//! # Changed files
//!
//! The files are checked for each connection and read again when they have changed: new
//! connections see new certificates, existing ones stay as they are. Files that cannot be used,
//! such as a certificate whose key has not been replaced yet, are logged, and the previous ones
//! stay in use. The system's CAs are read once for each parsed address.
//!
//! # Who the peer is
//!
//! [`Connection::peer`](crate::connect::Connection::peer) is
//! [`Peer::Certified`](crate::connect::Peer::Certified) with the subject of a verified certificate:
//! at a client always, at a server with `client-ca`. The subject is text in the form of RFC 4514,
//! with control and invisible characters escaped, as in `CN=a\0ab`. It can be empty, and depends on
//! what the CA signs. A certificate with a subject of more than 4 KiB is refused.
//!
//! # Handshake
//!
//! A server's handshakes run concurrently, at most 512 at a time, and delay no other client. Each
//! may take 10 s, and 1 s while 256 others are under way; a client that says nothing is then
//! disconnected. While all places are taken, a newcomer takes that of the client that has been
//! connected longest without sending anything. Further clients wait to be accepted. Handshakes
//! progress while the listener is polled. One that fails is logged, with the reason, and does not
//! concern the listener. A client waits 10 s at most, or
//! [`Options::wait`](crate::connect::Options::wait) if that is shorter.
//!
//! A receiver that [stops](crate::connect::MessageReceiver::stop) disconnects clients that have sent
//! nothing yet, and gives the others one more second to finish their handshakes: such a client may
//! have sent messages behind it.
//!
//! # Errors
//!
//! [`TlsError`] says which side refuses what. Most are errors of opening, of the kind
//! [`PermissionDenied`](crate::OpenErrorKind::PermissionDenied) if a certificate is refused, and
//! are not tried again. In TLS 1.3 a client learns only from its first read or write that the
//! server refuses its certificate (RFC 8446, 4.4.2), although `connect` has succeeded.
//!
//! # End of stream
//!
//! Each direction ends separately, with `close_notify` (RFC 8446, 6.1). A connection that ends
//! without it was cut, or its peer was killed: that is an error of the kind
//! [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), because data may be missing. With TLS 1.2,
//! a peer may answer the end of one direction with that of the other (RFC 5246, 7.2.1).
//!
//! # Examples
//!
//! A service for clients that have a certificate:
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//! use aqueduct::connect::Peer;
//!
//! # fn files() -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
//! #     use rcgen::*;
//! #     let dir = tempfile::tempdir()?;
//! #     let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text);
//! #     let mut ca = CertificateParams::new(vec![])?;
//! #     ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
//! #     let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
//! #     write("ca.pem", ca.pem())?;
//! #     for name in ["server", "client"] {
//! #         let key = KeyPair::generate()?;
//! #         let mut params = CertificateParams::new(vec!["localhost".into()])?;
//! #         params.distinguished_name = DistinguishedName::new();
//! #         params.distinguished_name.push(DnType::CommonName, name);
//! #         write(&format!("{name}.pem"), params.signed_by(&key, &ca)?.pem())?;
//! #         write(&format!("{name}.key"), key.serialize_pem())?;
//! #     }
//! #     Ok(dir)
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let files = files()?;
//! # let dir = files.path().display();
//! let server: Endpoint =
//!     format!("tls://localhost:0?cert={dir}/server.pem&key={dir}/server.key&client-ca={dir}/ca.pem").parse()?;
//! let mut listener = server.bind().await?;
//! # let port = listener.local_endpoint().to_string();
//! # let port = port.split(['?']).next().and_then(|it| it.rsplit(':').next()).ok_or("no port")?.to_owned();
//! let client: Endpoint =
//!     format!("tls://localhost:{port}?ca={dir}/ca.pem&cert={dir}/client.pem&key={dir}/client.key").parse()?;
//! let (connected, accepted) = tokio::join!(client.connect(), listener.accept());
//!
//! let connection = accepted.ok_or("no client")??;
//! let Peer::Certified { subject, .. } = connection.peer() else { return Err("no certificate".into()) };
//! assert_eq!(&**subject, "CN=client");
//!
//! let mut server = connection.channel::<String, String>(Text);
//! let mut client = connected?.channel::<String, String>(Text);
//! client.send("hello".into()).await?;
//! assert_eq!(server.recv().await.transpose()?.as_deref(), Some("hello"));
//! # Ok(()) }
//! ```

mod accept;
mod config;
mod error;
mod files;
mod halves;
mod scheme;
mod subject;
mod wire;

pub use self::error::{TlsError, TlsErrorKind};
pub(crate) use self::scheme::SCHEME;
