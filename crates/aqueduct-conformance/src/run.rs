use std::future::Future;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

/// How long a case may take: 120 s. This is generous, since it only ends a hang.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a case on a new runtime, until [`DEADLINE`].
///
/// # Panics
///
/// At the deadline. If the case blocks its thread, the process is ended instead, with the name of
/// the test.
pub fn run<F: Future>(case: F) -> F::Output {
    let (done, watched) = mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or("main").to_owned();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(2 * DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = writeln!(std::io::stderr(), "{name} blocks its thread for ever");
            std::process::abort();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be had");
    let output = runtime.block_on(async { tokio::time::timeout(DEADLINE, case).await });
    drop(runtime);
    drop(done);
    watchdog.join().expect("it only waits");
    output.unwrap_or_else(|_| panic!("still waiting after {DEADLINE:?}"))
}

/// Runs `future` to its end, or fails the test at half of [`DEADLINE`], to show where it hangs.
///
/// # Panics
///
/// At that time.
#[track_caller]
pub fn deadline<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let limit = DEADLINE / 2;
        match tokio::time::timeout(limit, future).await {
            Ok(output) => output,
            Err(_) => panic!("still waiting after {limit:?} at {caller}"),
        }
    }
}
