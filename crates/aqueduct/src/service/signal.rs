use std::io;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first `SIGINT` (Ctrl-C) or `SIGTERM` cancels: for [`serve`](super::serve),
/// which then ends in order.
///
/// From this call on neither signal ends the process by itself, as it would otherwise
/// ([`tokio::signal::unix`]); a second one changes nothing, since the shutdown has a deadline of its
/// own. The wait is a task on the runtime, and ends with the
/// signal.
///
/// # Errors
///
/// What the system says of a signal handler; an error outside a runtime.
///
/// # Panics
///
/// In a runtime without its I/O driver, as all of Tokio's signals do.
///
/// # Examples
///
/// ```no_run
/// use aqueduct::Endpoint;
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{self, Context};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address: Endpoint = "unix:/run/app/shout".parse()?;
/// let stop = serve::shutdown_on_signal()?;
/// aqueduct::serve(address.bind().await?, stop, |connection: Connection, cx: Context| async move {
///     let client = connection.channel_within::<String, String>(&cx, Text);
///     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
/// })
/// .await?;
/// # Ok(()) }
/// ```
pub fn shutdown_on_signal() -> io::Result<CancellationToken> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    runtime.spawn(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(target: "aqueduct::serve", signal = name, "shutting down");
        shutdown.cancel();
    });
    Ok(token)
}
