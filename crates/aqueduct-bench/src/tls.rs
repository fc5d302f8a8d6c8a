//! `tls:` beside tokio-rustls by hand: the same certificate and cipher, and tokio-util's frames.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::connect::Connection;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct_measure::case::{BOTH, Mechanism, ONE_WAY, Runtime, Work};
use aqueduct_measure::implementations::ends::{Borrows, Lends, Rx, Tx};
use aqueduct_measure::implementations::framed::{Both, FEED, FEED_64K, How};
use aqueduct_measure::implementations::{Two, play};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub(crate) const CASES: &[Case] = &[
    case("aqueduct/tls/feed", BOTH, |it| {
        let (tx, rx) = halves(connection(it)?)?;
        let tx = Tx {
            sink: tx,
            each: false,
        };
        play(it, Two { tx, rx: Rx(rx) })
    }),
    case("aqueduct/tls/borrowed", ONE_WAY, |it| {
        let (tx, rx) = halves(connection(it)?)?;
        let (tx, rx) = (Lends(tx), Borrows(rx));
        play(it, Two { tx, rx })
    }),
    case("aqueduct/tls/endpoint", BOTH, |it| {
        let (tx, rx) = connection(it)?.into_frames();
        let tx = Tx {
            sink: tx,
            each: false,
        };
        play(it, Two { tx, rx: Rx(rx) })
    }),
    case("tokio/tls/feed", BOTH, |it| by_hand(it, FEED)),
    case("tokio/tls/feed-64k", ONE_WAY, |it| by_hand(it, FEED_64K)),
];

const fn case(
    name: &'static str,
    works: &'static [Work],
    run: fn(&Session) -> anyhow::Result<SideReport>,
) -> Case {
    Case {
        name,
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works,
        sizes: &[],
        run,
    }
}

/// Where the server's certificate and key are. The certificate is the client's CA, too.
fn files(session: &Session) -> (PathBuf, PathBuf) {
    (
        session.spec().path("tls.pem"),
        session.spec().path("tls.key"),
    )
}

/// Makes both, at the server.
fn issue(session: &Session) -> anyhow::Result<()> {
    let (cert, key) = files(session);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(cert, made.cert.pem())?;
    Ok(fs::write(key, made.signing_key.serialize_pem())?)
}

/// The frames of a stream, as by hand over any socket.
fn halves(
    connection: Connection,
) -> anyhow::Result<(
    FramedWrite<impl AsyncWrite + Send + Unpin + use<>>,
    FramedRead<impl AsyncRead + Send + Unpin + use<>>,
)> {
    let bytes = connection.into_bytes().ok().context("it has bytes")?;
    let (reader, writer) = bytes.into_split();
    let framing = Framing::length();
    Ok((
        FramedWrite::new(writer, framing.clone()),
        FramedRead::new(reader, framing),
    ))
}

/// By an address, as the documentation says.
fn connection(session: &Session) -> anyhow::Result<Connection> {
    let (cert, key) = files(session);
    let (cert, key) = (cert.display(), key.display());
    let at = &session.spec().address;
    let first = session.is_first();
    let endpoint = match first {
        true => format!("tls://localhost:{at}?ca={cert}"),
        false => {
            issue(session)?;
            format!("tls://127.0.0.1:0?cert={cert}&key={key}")
        }
    };
    session.exec().run(async move {
        let endpoint: Endpoint = endpoint.parse()?;
        if first {
            return Ok(endpoint.connect().await?);
        }
        let mut listener = endpoint.bind().await?;
        let local = listener.local_endpoint().to_string();
        let port = local.split('?').next().and_then(|it| it.rsplit(':').next());
        ready(port.context("it has a port")?)?;
        listener
            .accept()
            .await
            .context("no client")?
            .map_err(Into::into)
    })
}

fn by_hand(session: &Session, how: How) -> anyhow::Result<SideReport> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let (cert, key) = files(session);
    let stream = if session.is_first() {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cert)?)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let at = format!("127.0.0.1:{}", session.spec().address);
        session.exec().run(async move {
            let stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost")?;
            let connector = TlsConnector::from(Arc::new(config));
            Ok(TlsStream::Client(connector.connect(name, stream).await?))
        })?
    } else {
        issue(session)?;
        let chain = vec![CertificateDer::from_pem_file(cert)?];
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        // A client that only sends reads no ticket, and closing its socket would reset the connection.
        config.send_tls13_tickets = 0;
        session.exec().run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(&listener.local_addr()?.port().to_string())?;
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = TlsAcceptor::from(Arc::new(config));
            Ok(TlsStream::Server(acceptor.accept(stream).await?))
        })?
    };
    play(session, Both::new(stream, how))
}
