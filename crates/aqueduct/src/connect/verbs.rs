//! The four verbs: on [`Options`], and with the default options on [`Endpoint`].

use std::pin::pin;
use std::time::Duration;

use super::{
    Connection, Endpoint, Listener, MessageReceiver, MessageSender, OpenError, OpenErrorKind,
    Options, activation,
};
use crate::address::Awaited;
use crate::io::timer::timeout;

impl Options {
    /// Connects to a two-way endpoint.
    ///
    /// **Waits indefinitely** by default while there is no server, with growing pauses between
    /// attempts. [`wait`](Self::wait) limits the wait. After 3 s one log event names the missing
    /// server. An `exec:` address starts its program, which inherits this process's standard error.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. For a one-way mechanism its kind is
    /// [`Unsupported`](super::OpenErrorKind::Unsupported), and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait and leaves nothing open.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, OpenError> {
        let address = endpoint.to_string();
        let options = self.at(endpoint, &address)?;
        let asked = endpoint.asked(&address, options.as_deref().unwrap_or(self));
        // Boxed, like everything that would make a caller's future larger.
        Box::pin(announced(endpoint, &address, asked.connect())).await
    }

    /// Binds a two-way endpoint and listens.
    ///
    /// If a service manager has bound a socket to exactly this address and passed it down, that
    /// socket is used; see the [module](super#socket-activation).
    ///
    /// # Errors
    ///
    /// [`OpenError`]. For a one-way mechanism its kind is
    /// [`Unsupported`](super::OpenErrorKind::Unsupported), and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future leaves nothing open.
    pub async fn bind(&self, endpoint: &Endpoint) -> Result<Listener, OpenError> {
        let address = endpoint.to_string();
        let options = self.at(endpoint, &address)?;
        let served = endpoint
            .mechanism()
            .bind(endpoint.asked(&address, options.as_deref().unwrap_or(self)))
            .await
            .map_err(activation::explain)?;
        let local = served.local.unwrap_or_else(|| endpoint.clone());
        let local = local.with_framing(endpoint.framing().cloned());
        Ok(Listener::new(served.bound.limited(self), local))
    }

    /// Opens the sending end as soon as there is a peer.
    ///
    /// **Waits indefinitely** by default while a FIFO has no reader or a socket no server.
    /// [`wait`](Self::wait) limits the wait. After 3 s one log event names the missing peer. A
    /// queue keeps messages for a later reader. A two-way endpoint is connected, and data from the
    /// peer is discarded ([`Connection::into_sender`](super::Connection::into_sender)). An `exec:`
    /// address starts its program with this process's standard output; the messages go to its
    /// standard input, as with `popen(3)`.
    ///
    /// Several processes may send to one FIFO at a time through such ends. No message is torn,
    /// whatever its size ([`SharedSender`](crate::fifo::SharedSender)).
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait and leaves nothing open. A FIFO or queue that
    /// it created stays.
    pub async fn open_sender(&self, endpoint: &Endpoint) -> Result<MessageSender, OpenError> {
        let address = endpoint.to_string();
        let options = self.at(endpoint, &address)?;
        let opening = endpoint
            .mechanism()
            .open_sender(endpoint.asked(&address, options.as_deref().unwrap_or(self)));
        Box::pin(announced(endpoint, &address, opening)).await
    }

    /// Opens the receiving end, without waiting for a sender.
    ///
    /// A two-way endpoint is bound, and messages of all clients arrive at the same time
    /// ([`Listener::into_receiver`](super::Listener::into_receiver)). An `exec:` address starts its
    /// program with this process's standard input; the messages come from its standard output, as
    /// with `popen(3)`.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future leaves nothing open. A FIFO or queue that it created stays.
    pub async fn open_receiver(&self, endpoint: &Endpoint) -> Result<MessageReceiver, OpenError> {
        let address = endpoint.to_string();
        let options = self.at(endpoint, &address)?;
        endpoint
            .mechanism()
            .open_receiver(endpoint.asked(&address, options.as_deref().unwrap_or(self)))
            .await
            .map_err(activation::explain)
    }

    /// Returns other options where the address asks for a framing.
    fn at(&self, endpoint: &Endpoint, address: &str) -> Result<Option<Box<Self>>, OpenError> {
        let Some(framing) = endpoint.framing() else {
            return Ok(None);
        };
        let mut options = Box::new(self.clone());
        options.is_addressed = true;
        if !self.is_framed {
            options.framing = framing.clone();
        } else if !framing.cuts_like(&self.framing) {
            let set = &self.framing;
            let cause =
                format!("its frame={framing} differs from the framing {set} of the options");
            let error = OpenError::new("open", address, OpenErrorKind::InvalidOption, cause);
            return Err(error.with_cure("leave one of the two out"));
        }
        Ok(Some(options))
    }
}

/// How long a wait goes unlogged.
const SILENT: Duration = Duration::from_secs(3);

/// Logs once whom `opening` waits for, if it takes long.
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

/// Opens with the default [`Options`]; see [`connect`](crate::connect).
impl Endpoint {
    /// Connects to a two-way endpoint, as [`Options::connect`] does.
    ///
    /// It waits indefinitely for a server that is missing;
    /// [`Options::wait`]`(Duration::ZERO)` tries once.
    ///
    /// # Errors
    ///
    /// See [`Options::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait and leaves nothing open.
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

    /// Binds a two-way endpoint, as [`Options::bind`] does.
    ///
    /// # Errors
    ///
    /// See [`Options::bind`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future leaves nothing open.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let any_port: Endpoint = "tcp://127.0.0.1:0".parse()?;
    /// let listener = any_port.bind().await?;
    /// println!("clients connect to {}", listener.local_endpoint());
    /// # assert_ne!(listener.local_endpoint(), &any_port);
    /// # Ok(()) }
    /// ```
    pub async fn bind(&self) -> Result<Listener, OpenError> {
        let options = Box::new(Options::new());
        options.bind(self).await
    }

    /// Opens the sending end, as [`Options::open_sender`] does.
    ///
    /// # Errors
    ///
    /// See [`Options::open_sender`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait and leaves nothing open. A FIFO or queue that
    /// it created stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use futures_util::SinkExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cat: Endpoint = "exec:cat".parse()?;
    /// let mut sender = cat.open_sender().await?;
    /// sender.send("printed by cat".into()).await?;
    /// sender.close().await?;
    /// # Ok(()) }
    /// ```
    pub async fn open_sender(&self) -> Result<MessageSender, OpenError> {
        let options = Box::new(Options::new());
        options.open_sender(self).await
    }

    /// Opens the receiving end, as [`Options::open_receiver`] does.
    ///
    /// # Errors
    ///
    /// See [`Options::open_receiver`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future leaves nothing open. A FIFO or queue that it created stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use futures_util::{SinkExt, StreamExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
    /// # "#;
    /// let mut receiver = jobs.open_receiver().await?;
    /// let mut sender = jobs.open_sender().await?;
    /// sender.send("sort the attic".into()).await?;
    /// let job = receiver.next().await.ok_or("end of stream")??;
    /// assert_eq!(job.body(), "sort the attic");
    /// # Ok(()) }
    /// ```
    pub async fn open_receiver(&self) -> Result<MessageReceiver, OpenError> {
        let options = Box::new(Options::new());
        options.open_receiver(self).await
    }
}
