//! The four verbs: on [`Options`], and with the default options on [`Endpoint`].

use std::pin::pin;
use std::time::Duration;

use super::{
    Connection, Endpoint, Listener, MessageReceiver, MessageSender, OpenError, Options, activation,
};
use crate::address::Awaited;
use crate::io::timer::timeout;

impl Options {
    /// Connects a two-way endpoint.
    ///
    /// **Waits for ever** by default while there is no server, with growing pauses between attempts, and
    /// logs once after 3 s whom it waits for. [`wait`](Self::wait) limits that. The program of an
    /// `exec:` address is started; its standard error is ours.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; for a one-way mechanism of the kind
    /// [`Unsupported`](super::OpenErrorKind::Unsupported), and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and leaves nothing open.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, OpenError> {
        let address = endpoint.to_string();
        let asked = endpoint.asked(&address, self);
        // Boxed, as is all that a future of a user would grow by.
        Box::pin(announced(endpoint, &address, asked.connect())).await
    }

    /// Binds a two-way endpoint, and listens.
    ///
    /// A socket that a service manager has bound to that very address and handed down is taken in
    /// place of a new one; see the [module](super#socket-activation).
    ///
    /// # Errors
    ///
    /// [`OpenError`]; for a one-way mechanism of the kind
    /// [`Unsupported`](super::OpenErrorKind::Unsupported), and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing open.
    pub async fn bind(&self, endpoint: &Endpoint) -> Result<Listener, OpenError> {
        let address = endpoint.to_string();
        let served = endpoint
            .mechanism()
            .bind(endpoint.asked(&address, self))
            .await
            .map_err(activation::explain)?;
        let local = served.local.unwrap_or_else(|| endpoint.clone());
        Ok(Listener::new(served.bound.limited(self), local))
    }

    /// Opens the sending end, as soon as there is a peer to send to.
    ///
    /// **Waits for ever** by default while a FIFO has no reader or a socket no server, and logs once after
    /// 3 s whom it waits for. [`wait`](Self::wait) limits that. A queue keeps messages for whoever reads
    /// it later. A two-way endpoint is connected, and what the peer sends is discarded
    /// ([`Connection::into_sender`](super::Connection::into_sender)). The program of an `exec:` address
    /// is started with our standard output, and gets the messages on its input, as `popen(3)` does.
    ///
    /// Several processes may send to one FIFO at a time, each through such an end: none of their
    /// messages is torn, whatever its size ([`SharedSender`](crate::fifo::SharedSender)).
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and leaves nothing open. What it created stays.
    pub async fn open_sender(&self, endpoint: &Endpoint) -> Result<MessageSender, OpenError> {
        let address = endpoint.to_string();
        let opening = endpoint
            .mechanism()
            .open_sender(endpoint.asked(&address, self));
        Box::pin(announced(endpoint, &address, opening)).await
    }

    /// Opens the receiving end.
    ///
    /// A two-way endpoint is bound, and messages come from all who connect at the same time
    /// ([`Listener::into_receiver`](super::Listener::into_receiver)). The program of an `exec:` address
    /// is started with our standard input, and messages come from its output, as `popen(3)` does.
    ///
    /// It does not wait for a sender: the messages of one that connects later arrive then.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing open. What it created stays.
    pub async fn open_receiver(&self, endpoint: &Endpoint) -> Result<MessageReceiver, OpenError> {
        let address = endpoint.to_string();
        endpoint
            .mechanism()
            .open_receiver(endpoint.asked(&address, self))
            .await
            .map_err(activation::explain)
    }
}

/// How long a wait is silent.
const SILENT: Duration = Duration::from_secs(3);

/// Says once whom `opening` waits for, if it takes long.
async fn announced<T>(
    endpoint: &Endpoint,
    address: &str,
    opening: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let awaited = match endpoint.capabilities().awaits {
        Awaited::Nobody => return opening.await,
        Awaited::Reader => "reader",
        Awaited::Server => "server",
    };
    let mut opening = pin!(opening);
    match timeout(SILENT, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::info!(target: "aqueduct::connect", %address, "waiting for a {awaited}");
            opening.await
        }
    }
}

/// Opening with the default [`Options`]; see [`connect`](crate::connect).
impl Endpoint {
    /// Connects a two-way endpoint: [`Options::connect`].
    ///
    /// It waits for ever for a server that is not there yet;
    /// [`Options::wait`]`(Some(Duration::ZERO))` tries once.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cat: Endpoint = "exec:cat".parse()?;
    /// let mut cat = cat.connect().await?.channel::<String, String>(Text);
    /// cat.send("meow".into()).await?;
    /// assert_eq!(cat.recv().await.transpose()?, Some("meow".into()));
    /// # Ok(()) }
    /// ```
    pub async fn connect(&self) -> Result<Connection, OpenError> {
        let options = Box::new(Options::new());
        options.connect(self).await
    }

    /// Binds a two-way endpoint: [`Options::bind`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn bind(&self) -> Result<Listener, OpenError> {
        let options = Box::new(Options::new());
        options.bind(self).await
    }

    /// Opens the sending end: [`Options::open_sender`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn open_sender(&self) -> Result<MessageSender, OpenError> {
        let options = Box::new(Options::new());
        options.open_sender(self).await
    }

    /// Opens the receiving end: [`Options::open_receiver`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn open_receiver(&self) -> Result<MessageReceiver, OpenError> {
        let options = Box::new(Options::new());
        options.open_receiver(self).await
    }
}
