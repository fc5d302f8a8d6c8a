use std::future::pending;
use std::io;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::io::sys;

/// A token that the first `SIGINT` (Ctrl-C), `SIGTERM` or `SIGHUP` cancels.
///
/// [`serve`](super::serve) then ends in order. A `SIGHUP`, which a closed terminal sends, changes
/// nothing if the process ignores it, as under `nohup(1)`.
///
/// From this call on none of them ends the process by itself ([`tokio::signal::unix`]). A second
/// signal changes nothing: `serve` has a deadline of its own, [`Options::grace`](super::Options::grace).
/// Elsewhere, as with [`Receiver::until`](crate::Receiver::until), the program sets one. The wait is a task on the runtime that
/// ends with the first signal.
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
/// let stop = service::shutdown_on_signal()?;
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
