//! HTTP by hyper, over a Unix socket or over the pipes of a child process.
//!
//! ```text
//! terminal 1:  cargo run --example hyper_unix -- serve unix:/tmp/http.sock
//! terminal 2:  cargo run --example hyper_unix -- get unix:/tmp/http.sock /hello /time
//!              curl --unix-socket /tmp/http.sock http://localhost/hello
//!              curl --unix-socket /tmp/http.sock http://localhost/shout -d 'is anybody there?'
//! ```
//!
//! hyper needs one value that is `AsyncRead` and `AsyncWrite`: a [`ByteStream`]. A connection to
//! any byte-stream address turns into one, and two pipes can be joined into one. The latter needs
//! only one terminal: the server is then a child, and HTTP goes over its standard input and output:
//!
//! ```text
//! cargo run --example hyper_unix -- child /hello /time
//! ```
//!
//! Ctrl-C or SIGTERM ends the server, after it has answered a request that has begun.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::child::Command;
use aqueduct::connect::{ByteStream, Connection};
use aqueduct::service::{self, serve};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

/// The largest body that the server takes.
const MAX_BODY: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address] => serve_at(&address.parse()?).await,
        ["get", address, ref paths @ ..] => {
            let address: Endpoint = address.parse()?;
            get(bytes_of(address.connect().await?)?, paths).await
        }
        ["child", ref paths @ ..] => get_from_child(paths).await,
        _ => bail!("usage: hyper_unix serve ADDRESS | get ADDRESS PATH... | child PATH..."),
    }
}

/// What a protocol with a framing of its own needs of a connection.
fn bytes_of(connection: Connection) -> Result<ByteStream> {
    let bytes = connection.into_bytes();
    bytes
        .ok()
        .context("HTTP needs a stream of bytes, and this address has messages")
}

async fn serve_at(address: &Endpoint) -> Result<()> {
    let listener = address.bind().await?;
    // Standard output may be the connection.
    eprintln!("listening on {}", listener.local_endpoint());
    let stop = service::shutdown_on_signal()?;
    serve(
        listener,
        stop,
        |connection: Connection, cx: service::Context| async move {
            let bytes = TokioIo::new(bytes_of(connection)?);
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10));
            let mut http = std::pin::pin!(builder.serve_connection(bytes, service_fn(answer)));
            tokio::select! {
                ended = http.as_mut() => return Ok(ended?),
                () = cx.shutdown() => http.as_mut().graceful_shutdown(),
            }
            anyhow::Ok(http.await?)
        },
    )
    .await?;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/hello") => (StatusCode::OK, String::from("hello\n")),
        (&Method::GET, "/time") => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            (
                StatusCode::OK,
                format!("{}\n", now.unwrap_or_default().as_secs()),
            )
        }
        (&Method::POST, "/shout") => {
            match Limited::new(request.into_body(), MAX_BODY).collect().await {
                Ok(body) => {
                    let body = body.to_bytes();
                    (
                        StatusCode::OK,
                        String::from_utf8_lossy(&body).to_uppercase(),
                    )
                }
                Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        }
        _ => (StatusCode::NOT_FOUND, String::from("nothing here\n")),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// The server as a child, over its standard input and output.
async fn get_from_child(paths: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["serve", "stdio:"])
        .pipe_to_child(0)
        .pipe_from_child(1)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pipes = ByteStream::join(child.take_receiver(1)?, child.take_sender(0)?);
    get(pipes, paths).await?;
    // It has seen the end of its input.
    let status = child.wait().await?;
    println!("the child ended with {status}");
    Ok(())
}

/// Gets all `paths` over one connection of any kind.
async fn get(bytes: ByteStream, paths: &[&str]) -> Result<()> {
    let (mut server, connection) = handshake(TokioIo::new(bytes)).await?;
    let connection = tokio::spawn(connection);
    for path in paths {
        server.ready().await?;
        let request = Request::get(*path).header(HOST, "localhost");
        let response = server
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        print!("{path}: {status}, {}", String::from_utf8_lossy(&body));
    }
    drop(server);
    Ok(connection.await??)
}
