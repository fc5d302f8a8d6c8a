use std::future::pending;
use std::io;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::io::sys;

/// Returns a token that the first `SIGINT` (Ctrl-C), `SIGTERM` or `SIGHUP` cancels.
///
/// [`serve`](super::serve) then ends in order. A `SIGHUP`, which a closed terminal sends, has no
/// effect if the process ignores it, as under `nohup(1)`.
///
/// After this call none of these signals ends the process by itself ([`tokio::signal::unix`]), and
/// a second signal has no effect. `serve` has its own deadline,
/// [`Options::grace`](super::Options::grace); elsewhere, as with
/// [`Receiver::until`](crate::Receiver::until), set one. A task on the runtime waits for the signal
/// and then ends.
///
/// # Errors
///
/// The system's error for a signal handler, or an error outside a runtime.
///
/// # Panics
///
/// In a runtime without its I/O driver, as all of Tokio's signals do.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{self, Context};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: Endpoint = format!("unix:{}/shout", dir.path().display()).parse()?;
/// # let _ = r#"
/// let address: Endpoint = "unix:/run/app/shout".parse()?;
/// # "#;
/// let stop = service::shutdown_on_signal()?;
/// # stop.cancel();
/// aqueduct::serve(address.bind().await?, stop, |connection: Connection, cx: Context| async move {
///     let client = cx.channel::<String, String>(connection, Text);
///     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
/// })
/// .await?;
/// # Ok(()) }
/// ```
pub fn shutdown_on_signal() -> io::Result<CancellationToken> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let hangup = SignalKind::hangup();
    let mut hangup = match sys::is_ignored(hangup.as_raw_value()) {
        true => None,
        false => Some(signal(hangup)?),
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    runtime.spawn(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        let name = tokio::select! {
            _ = hung_up => "SIGHUP",
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(target: "aqueduct::serve", signal = name, "shutting down");
        shutdown.cancel();
    });
    Ok(token)
}
