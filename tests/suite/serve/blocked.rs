//! Handlers that never come to a point where they can be dropped.

use std::sync::mpsc;
use std::time::Duration;

use aqueduct::service::{CancellationToken, Options};
use futures_util::stream;

use crate::support::{Log, deadline};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_handler_does_not_keep_the_service_from_ending() {
    let (log, _recording) = Log::start();
    let (begun, mut at_work) = tokio::sync::mpsc::unbounded_channel();
    // It blocks until this is dropped.
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let stop = CancellationToken::new();
    let mut options = Options::default();
    options.grace(Duration::from_millis(10));
    let handler = move |(), _| {
        begun.send(()).expect("the test waits");
        let ended = blocked.lock().expect("nobody panics").recv();
        async move {
            ended.expect_err("nothing is sent");
            std::io::Result::Ok(())
        }
    };
    let serving = options.serve(stream::iter([Ok(())]), stop.clone(), handler);
    let stopping = async {
        at_work.recv().await.expect("it begins");
        stop.cancel();
    };
    let (served, ()) = deadline(async { tokio::join!(serving, stopping) }).await;
    let stats = served.expect("the listener has ended");
    assert_eq!((stats.accepted, stats.finished), (1, 0));
    log.until("handlers block their threads and cannot be aborted")
        .await;
    drop(release);
}
