//! A service that is told to stop while a handler ends only when its stream does, and another never.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct::codec::Raw;
use aqueduct::connect::Connection;
use aqueduct::frame::Framing;
use aqueduct::service::{CancellationToken, Context, Error, Options, Stats};
use aqueduct::unix;
use aqueduct_conformance::every_point;
use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::yield_now;

use super::place;

/// Each half of it is waited for, since a client never stops.
const GRACE: Duration = Duration::from_millis(10);

struct Clients {
    streams: [StdStream; 2],
    stop: CancellationToken,
    /// Held by each handler.
    at_work: Arc<()>,
    path: PathBuf,
    _dir: TempDir,
}

type Serving = Pin<Box<dyn Future<Output = Result<Stats, Error>>>>;

fn serve(listener: unix::Listener, stop: CancellationToken, at_work: Arc<()>) -> Serving {
    let served = AtomicBool::new(false);
    let handler = move |stream: UnixStream, cx: Context| {
        let at_work = Arc::clone(&at_work);
        let is_first = !served.swap(true, Ordering::Relaxed);
        async move {
            let _at_work = at_work;
            if is_first {
                return std::future::pending().await;
            }
            let connection = Connection::from_io(stream, Framing::length());
            let channel = cx.channel::<Bytes, Bytes>(connection, Raw);
            let mut requests = cx.until_shutdown(channel);
            while requests.next().await.transpose()?.is_some() {}
            Ok::<_, aqueduct::Error>(())
        }
    };
    Box::pin(async move {
        let mut options = Options::new();
        options.grace(GRACE).serve(listener, stop, handler).await
    })
}

/// Dropped at any stage, it leaves no handler, no connection and no listener.
#[tokio::test]
async fn a_service_that_shuts_down() {
    every_point(
        "service::Options::serve, shutting down",
        async || {
            let (dir, path) = place();
            let listener = unix::bind(&path).expect("bound");
            let connect = || {
                let mut stream = StdStream::connect(&path).expect("it listens");
                // A message that never ends: its stream does not at once.
                stream.write_all(b"\0\0").expect("it is written");
                stream
            };
            let streams = [connect(), connect()];
            let (stop, at_work) = (CancellationToken::new(), Arc::new(()));
            let service = serve(listener, stop.clone(), Arc::clone(&at_work));
            let clients = Clients {
                streams,
                stop,
                at_work,
                path,
                _dir: dir,
            };
            (Some(service), clients)
        },
        async |service: &mut Option<Serving>| service.take().expect("it is there").await,
        async |clients| {
            // This one, the service's, and one of each handler.
            if Arc::strong_count(&clients.at_work) == 4 {
                clients.stop.cancel();
            }
        },
        async |_, clients, output| {
            if let Some(stats) = output {
                let stats = stats.expect("the listener is sound");
                let ended = (stats.accepted, stats.finished, stats.aborted);
                assert_eq!(ended, (2, 1, 1));
            }
            while Arc::strong_count(&clients.at_work) > 1 {
                yield_now().await;
            }
            for mut stream in clients.streams {
                // Where something was left unread, a reset comes in place of the end.
                if let Err(error) = stream.read_to_end(&mut Vec::new()) {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
            }
            drop(unix::bind(&clients.path).expect("the path is free"));
        },
    )
    .await;
}
