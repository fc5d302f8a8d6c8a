use std::sync::atomic::AtomicU64;

use futures_util::{StreamExt, future, stream};
use tokio::time::{Instant, sleep};

use super::*;

const S: Duration = Duration::from_secs(1);

fn connections(n: u64) -> impl Stream<Item = io::Result<u64>> {
    stream::iter((0..n).map(Ok))
}

#[tokio::test(start_paused = true)]
async fn every_connection_is_counted_once_by_how_it_ended() {
    let shutdown = CancellationToken::new();
    let mut options = Options::new();
    options.first_timeout(S);
    let handler = |n, cx: Context| async move {
        match n % 5 {
            0 => Ok(()),
            1 => Err("failed"),
            2 => panic!("a panic on purpose"),
            3 => {
                let mut silent = cx.stream(stream::pending::<io::Result<()>>(), |_| false);
                assert!(silent.next().await.unwrap().is_err());
                Err("timed out")
            }
            _ => future::pending().await,
        }
    };
    let end = async {
        sleep(5 * S).await;
        shutdown.cancel();
    };
    let serving = options.serve(connections(50), shutdown.clone(), handler);
    let (stats, ()) = future::join(serving, end).await;
    let expected = Stats {
        accepted: 50,
        finished: 10,
        failed: 10,
        timed_out: 10,
        panicked: 10,
        aborted: 10,
        most_at_once: 50,
    };
    assert_eq!(stats.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn connections_over_the_limit_wait() {
    let live = Arc::new(AtomicU64::new(0));
    let handler = move |_, _| {
        let live = Arc::clone(&live);
        async move {
            assert!(live.fetch_add(1, Ordering::SeqCst) < 7);
            sleep(S).await;
            live.fetch_sub(1, Ordering::SeqCst);
            io::Result::Ok(())
        }
    };
    let mut options = Options::new();
    options.max_connections(7);
    let start = Instant::now();
    let serving = options.serve(connections(70), CancellationToken::new(), handler);
    let stats = serving.await.unwrap();
    assert_eq!((stats.finished, stats.most_at_once), (70, 7));
    assert_eq!(start.elapsed(), 10 * S);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_shutdown_is_kept_and_the_rest_aborted() {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    // Cancelled before: nothing is accepted.
    let handler = |_, _| future::pending::<io::Result<()>>();
    let none = Options::new().serve(connections(1), shutdown, handler);
    assert_eq!(none.await.unwrap(), Stats::default());

    let shutdown = CancellationToken::new();
    let listener = connections(3).chain(stream::pending());
    let start = Instant::now();
    let serving = Options::new().serve(listener, shutdown.clone(), handler);
    let end = async {
        sleep(S).await;
        shutdown.cancel();
    };
    let (stats, ()) = future::join(serving, end).await;
    assert_eq!(stats.unwrap().aborted, 3);
    assert_eq!(start.elapsed(), S + GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_broken_listener_ends_the_service_after_its_handlers() {
    let broken = Err(io::Error::from_raw_os_error(libc::EINVAL));
    let listener = connections(2).chain(stream::iter([broken]));
    let user = CancellationToken::new();
    let told = |_, cx: Context| async move {
        cx.shutdown().await;
        sleep(S).await;
        io::Result::Ok(())
    };
    let error = Options::new().serve(listener, user.clone(), told).await;
    let error = error.unwrap_err();
    let Error::Accept { stats, source } = error else {
        panic!("{error}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::EINVAL));
    assert_eq!((stats.accepted, stats.finished), (2, 2));
    assert!(!user.is_cancelled(), "the token of the user is the user's");
}

#[tokio::test(start_paused = true)]
async fn errors_of_accept_that_pass_are_waited_out() {
    let mut errors = vec![libc::ECONNABORTED, libc::EMFILE, libc::EMFILE];
    let listener = stream::poll_fn(move |_| {
        let item = errors
            .pop()
            .map(|errno| Err(io::Error::from_raw_os_error(errno)));
        Poll::Ready(Some(item.unwrap_or(Ok(()))))
    });
    let start = Instant::now();
    let handler = |(), _| future::ready(io::Result::Ok(()));
    let stats = Options::new()
        .serve(listener.take(4), CancellationToken::new(), handler)
        .await
        .unwrap();
    assert_eq!(stats.finished, 1);
    assert!(start.elapsed() >= Duration::from_millis(15));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_service_aborts_its_handlers() {
    struct Gone(Arc<Semaphore>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    let gone = Arc::new(Semaphore::new(0));
    let listener = stream::iter([Ok(Gone(Arc::clone(&gone)))]).chain(stream::pending());
    let handler = |gone, _| async move {
        let _gone: Gone = gone;
        future::pending::<io::Result<()>>().await
    };
    let serving = Options::new().serve(listener, CancellationToken::new(), handler);
    assert!(timeout(S, serving).await.is_err());
    timeout(S, gone.acquire()).await.unwrap().unwrap().forget();
}

#[test]
fn outside_a_runtime_it_is_an_error_and_no_panic() {
    let handler = |_, _| future::pending::<io::Result<()>>();
    let serving = Options::new().serve(connections(1), CancellationToken::new(), handler);
    let error = FutureExt::now_or_never(serving).unwrap().unwrap_err();
    assert!(matches!(error, Error::NoRuntime(_)), "{error}");
}

#[test]
fn a_panic_keeps_its_message() {
    let caught = |f: fn()| std::panic::catch_unwind(f).unwrap_err();
    assert_eq!(panic_message(caught(|| panic!("plain")).as_ref()), "plain");
    assert_eq!(panic_message(caught(|| panic!("{}", 7)).as_ref()), "7");
    let other = caught(|| std::panic::panic_any(7));
    assert_eq!(panic_message(other.as_ref()), "(no message)");
}
