//! `tls:` beside tokio-rustls by hand: the same certificate and cipher, and tokio-util's frames.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::connect::Connection;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct_measure::case::{BOTH, Mechanism, ONE_WAY, Runtime, Work};
use aqueduct_measure::implementations::{Two, play};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

pub(crate) const CASES: &[Case] = &[
    case("aqueduct/tls/feed", BOTH, |it| {
        let (tx, rx) = halves(connection(it)?)?;
        let (tx, rx) = (Tx(tx), Rx(rx));
        play(it, Two { tx, rx })
    }),
    case("aqueduct/tls/borrowed", ONE_WAY, |it| {
        let (tx, rx) = halves(connection(it)?)?;
        let (tx, rx) = (Lends(tx), Borrows(rx));
        play(it, Two { tx, rx })
    }),
    case("aqueduct/tls/endpoint", BOTH, |it| {
        let (tx, rx) = connection(it)?.into_frames();
        let (tx, rx) = (Tx(tx), Rx(rx));
        play(it, Two { tx, rx })
    }),
    case("tokio/tls/feed", BOTH, |it| by_hand(it, None)),
    case("tokio/tls/feed-64k", ONE_WAY, |it| {
        by_hand(it, Some(64 << 10))
    }),
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

struct Tx<S>(S);

impl<S> Sends for Tx<S>
where
    S: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
{
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush().await?)
    }
}

struct Rx<R>(R);

impl<R> Receives for Rx<R>
where
    R: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next().await;
        check.frame(&frame.context("the stream has ended")??)
    }
}

/// Frames on loan: copied once on their way out, and not at all on their way in.
struct Lends<W>(FramedWrite<W>);

impl<W: AsyncWrite + Send + Unpin + 'static> Sends for Lends<W> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.feed_borrowed(&message.bytes).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush().await?)
    }
}

struct Borrows<R>(FramedRead<R>);

impl<R: AsyncRead + Send + Unpin + 'static> Receives for Borrows<R> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next_borrowed().await;
        check.frame(frame.context("the stream has ended")??)
    }
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

struct Both(Framed<TlsStream<TcpStream>, LengthDelimitedCodec>);

impl Sends for Both {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(SinkExt::<Bytes>::flush(&mut self.0).await?)
    }
}

impl Receives for Both {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next().await;
        check.frame(&frame.context("the stream has ended")??)
    }
}

/// `buffer`: bytes of both buffers, if not the default of 8 KiB.
fn by_hand(session: &Session, buffer: Option<usize>) -> anyhow::Result<SideReport> {
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
    let codec = LengthDelimitedCodec::new();
    let framed = match buffer {
        None => Framed::new(stream, codec),
        Some(bytes) => {
            let mut framed = Framed::with_capacity(stream, codec, bytes);
            framed.set_backpressure_boundary(bytes);
            framed
        }
    };
    play(session, Both(framed))
}
