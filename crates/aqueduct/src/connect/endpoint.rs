//! [`Endpoint`], and what a mechanism provides for it: a [`Scheme`] and a [`Mechanism`].

use std::fmt::{self, Debug, Display, Formatter};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::accept::Bound;
use super::finding::Finding;
use super::lasting::Connector;
use super::options::Options;
use super::place::{End, Place};
use super::{Connection, MessageReceiver, MessageSender, OpenError, OpenErrorKind};
use crate::address::{AddressProblem, Capabilities, Direction, Printer, Query};
use crate::frame::Framing;

/// A parsed address that messages come from or go to.
///
/// The [`endpoint`](crate::endpoint) module documents the grammar, [`connect`](crate::connect) how
/// to open it. Two endpoints are equal if they print the same. With the feature `serde` an endpoint
/// is serialised as its address.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
///
/// let endpoint: Endpoint = "fifo:///run/app/jobs?mode=620".parse()?;
/// assert_eq!(endpoint.scheme().name, "fifo");
/// assert_eq!(endpoint.path(), Some("/run/app/jobs".as_ref()));
/// assert_eq!(endpoint.to_string(), "fifo:/run/app/jobs?mode=0620");
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    scheme: &'static Scheme,
    mechanism: Arc<dyn Mechanism>,
    framing: Option<Arc<Framing>>,
}

impl Endpoint {
    pub(crate) fn from_parts(scheme: &'static Scheme, mechanism: Arc<dyn Mechanism>) -> Self {
        Self {
            scheme,
            mechanism,
            framing: None,
        }
    }

    /// With the framing that an address asks for.
    pub(crate) fn with_framing(self, framing: Option<Framing>) -> Self {
        let framing = framing.map(Arc::new);
        Self { framing, ..self }
    }

    /// Returns the scheme of the address.
    pub fn scheme(&self) -> &'static Scheme {
        self.scheme
    }

    /// Returns what the mechanism can do.
    ///
    /// That is direction, boundaries, ordering, end of stream, limits and sharing.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// let fifo: Endpoint = "fifo:/run/app/jobs".parse()?;
    /// assert_eq!(fifo.capabilities().keeps_boundaries, Some(false));
    /// let queue: Endpoint = "mq:/jobs".parse()?;
    /// assert_eq!(queue.capabilities().keeps_boundaries, Some(true));
    /// # Ok::<(), aqueduct::AddressError>(())
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        self.mechanism.capabilities()
    }

    /// Returns the framing that the address asks for with `frame=`, if any.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Endpoint, frame::Framing};
    ///
    /// let editor: Endpoint = "exec:rust-analyzer?frame=headers".parse()?;
    /// assert_eq!(editor.framing(), Some(&Framing::headers()));
    /// # Ok::<(), aqueduct::AddressError>(())
    /// ```
    pub fn framing(&self) -> Option<&Framing> {
        self.framing.as_deref()
    }

    /// Returns the path in the file system that the address names, if any.
    pub fn path(&self) -> Option<&Path> {
        self.mechanism.path()
    }

    /// Returns whether messages sent to this address arrive at `receiver`.
    ///
    /// True if both lead to the same FIFO, queue, socket or port, whatever their spelling and
    /// options. `stdio:` stands for standard output here and for standard input in `receiver`. A
    /// host name is looked up, which may block.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// let jobs: Endpoint = "mq:/jobs".parse()?;
    /// assert!(jobs.leads_to(&"mq:/jobs?capacity=4".parse()?));
    /// assert!(!jobs.leads_to(&"mq:/failed".parse()?));
    /// # Ok::<(), aqueduct::AddressError>(())
    /// ```
    pub fn leads_to(&self, receiver: &Self) -> bool {
        let here = self.mechanism.place(End::Sender);
        let there = receiver.mechanism.place(End::Receiver);
        matches!((here, there), (Some(here), Some(there)) if here.is(&there))
    }

    /// Removes what the address names, such as a FIFO or a queue with its messages.
    ///
    /// Programs that have it open can go on using it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] of the kind
    ///
    /// - [`Unsupported`](OpenErrorKind::Unsupported) if the object does not [outlive its
    ///   processes](Capabilities::outlives_processes).
    /// - [`NotFound`](OpenErrorKind::NotFound) (`ENOENT`) if it does not exist.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`, `EPERM`) if it belongs to
    ///   another user.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the object either removed or unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Endpoint, OpenErrorKind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
    /// # "#;
    /// let receiver = jobs.open_receiver().await?; // creates the FIFO
    /// jobs.remove().await?;
    /// assert_eq!(jobs.remove().await.unwrap_err().kind(), &OpenErrorKind::NotFound);
    /// # Ok(()) }
    /// ```
    pub async fn remove(&self) -> Result<(), OpenError> {
        let (address, options) = (self.to_string(), Options::new());
        self.mechanism.remove(self.asked(&address, &options)).await
    }

    /// Looks at what the address leads to, and says what it means for the promises.
    ///
    /// For an address of `nats:`: the server, its JetStream, the stream and the consumer. Nothing is
    /// created or changed.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](OpenErrorKind::Unsupported) for all other addresses, and the errors of
    /// connecting to the server.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn examine(&self) -> Result<Vec<Finding>, OpenError> {
        let mut options = Options::new();
        options.wait(Duration::ZERO);
        let address = self.to_string();
        self.mechanism.examine(self.asked(&address, &options)).await
    }

    pub(super) fn mechanism(&self) -> &dyn Mechanism {
        &*self.mechanism
    }

    pub(crate) fn drain(&self, options: &Options) -> Result<usize, OpenError> {
        let address = self.to_string();
        self.mechanism.drain(self.asked(&address, options))
    }

    pub(super) fn asked<'a>(&'a self, address: &'a str, options: &'a Options) -> Asked<'a> {
        Asked {
            mechanism: &self.mechanism,
            address,
            options,
            is_bare: false,
        }
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mechanism, &other.mechanism) || self.to_string() == other.to_string()
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::default();
        printer.option("frame", self.framing());
        self.mechanism.print(&mut printer);
        // The form shows for which schemes `tcp://` is the customary spelling.
        let slashes = self.scheme.form[self.scheme.name.len() + 1..].starts_with("//");
        f.pad(&printer.finish(self.scheme.name, slashes))
    }
}

impl Debug for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.to_string()).finish()
    }
}

/// Creates a mechanism from the rest of an address.
type Parse = fn(&[u8], &Query) -> Result<Arc<dyn Mechanism>, AddressProblem>;

/// A kind of address: its name, its form and its options.
///
/// [`Endpoint::schemes`](crate::connect::Endpoint::schemes) lists all of them, for help texts and
/// completions.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
///
/// let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
/// assert_eq!(jobs.scheme().form, "fifo:/path");
/// assert!(jobs.scheme().options.contains(&"persist"));
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Scheme {
    /// The part before the colon, such as `fifo`.
    pub name: &'static str,
    /// The form of an address, such as `fifo:/path`.
    pub form: &'static str,
    /// The mechanism, in a few words.
    pub summary: &'static str,
    /// The names of its options, in alphabetical order.
    pub options: &'static [&'static str],
    /// Other names for it, for the nearest match.
    pub(crate) synonyms: &'static [&'static str],
    /// Parses the part after the colon, without the options.
    pub(crate) parse: Parse,
}

/// The future of an opening call.
pub(crate) type Opening<'a, T> = Pin<Box<dyn Future<Output = Result<T, OpenError>> + Send + 'a>>;

/// One parsed address of a mechanism, and how to open it.
///
/// A mechanism leaves out what it cannot do. The defaults either refuse or use a connection.
pub(crate) trait Mechanism: Debug + Send + Sync + 'static {
    /// Prints the part after the scheme so that it parses to the same address.
    fn print(&self, printer: &mut Printer);

    /// Returns what the mechanism can do, without opening it.
    fn capabilities(&self) -> Capabilities;

    /// Returns its path, if its name is in the file system.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Returns what one of its ends leads to, if another address may lead there too.
    fn place(&self, _: End) -> Option<Place> {
        None
    }

    /// Connects to a two-way address.
    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move { Err(asked.one_way("connect to")) })
    }

    /// Binds a two-way address; by default it has one connection, and then no more.
    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            if self.capabilities().direction == Direction::OneWay {
                return Err(asked.one_way("bind"));
            }
            let connection = self.connect(asked).await?;
            Ok(Bound::once(connection, asked.address).into())
        })
    }

    /// Opens the sending end; by default over a connection.
    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move { Ok(asked.connect().await?.into_sender()) })
    }

    /// Opens the receiving end; by default of all clients.
    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let bound = self.bind(asked).await?.bound;
            Ok(bound.limited(asked.options).into_receiver())
        })
    }

    /// Removes an object that outlives processes.
    fn remove<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, ()> {
        Box::pin(async move {
            let cause = "it does not outlive the processes that use it";
            let kind = OpenErrorKind::Unsupported;
            Err(OpenError::new("remove", asked.address, kind, cause))
        })
    }

    /// Looks at what the address leads to.
    fn examine<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Vec<Finding>> {
        Box::pin(async move {
            let cause = "only addresses of a server can be examined";
            let kind = OpenErrorKind::Unsupported;
            let error = OpenError::new("examine", asked.address, kind, cause);
            Err(error.with_cure("see `aqueduct list` for objects of this machine"))
        })
    }

    /// Discards messages that an earlier conversation left in it, and returns their number.
    fn drain(&self, _: Asked<'_>) -> Result<usize, OpenError> {
        Ok(0)
    }
}

/// The result of binding.
pub(crate) struct Served {
    pub(crate) bound: Bound,
    /// The address to connect to, if it differs from the address that was bound.
    pub(crate) local: Option<Endpoint>,
}

impl From<Bound> for Served {
    fn from(bound: Bound) -> Self {
        let local = None;
        Self { bound, local }
    }
}

/// A request to open something: the mechanism, its address and the options.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The mechanism itself, for opening it again later.
    pub(crate) mechanism: &'a Arc<dyn Mechanism>,
    /// The printed address.
    pub(crate) address: &'a str,
    pub(crate) options: &'a Options,
    /// The caller only takes the [socket](ByteStream::into_socket) out of the connection, which need not
    /// be registered for that; see [`ByteStream::bare`].
    pub(crate) is_bare: bool,
}

impl Asked<'_> {
    /// The same for a caller that only takes the socket out of the connection.
    pub(crate) fn bare(self) -> Self {
        Self {
            is_bare: true,
            ..self
        }
    }

    /// Connects, and reconnects if the options say so and another connection is possible.
    pub(super) async fn connect(&self) -> Result<Connection, OpenError> {
        let first = self.mechanism.connect(*self).await?;
        let policy = match &self.options.reconnect {
            Some(policy) if !self.mechanism.capabilities().private => policy.clone(),
            _ => return Ok(first),
        };
        let mechanism = Arc::clone(self.mechanism);
        let (address, mut options) = (self.address.to_owned(), self.options.clone());
        let limit = policy.give_up_after.or(options.wait);
        // The engine makes the pauses.
        options.wait = Some(Duration::ZERO);
        let connector: Connector = Box::new(move || {
            let mechanism = Arc::clone(&mechanism);
            let (address, options) = (address.clone(), options.clone());
            Box::pin(async move {
                let asked = Asked {
                    mechanism: &mechanism,
                    address: &address,
                    options: &options,
                    is_bare: false,
                };
                Ok(mechanism.connect(asked).await?)
            })
        });
        let policy = policy.give_up_after(limit);
        Ok(policy.over(self.address.to_owned(), connector, Some(first)))
    }

    /// Wraps an error of the system.
    pub(crate) fn failed(&self, source: io::Error) -> OpenError {
        match source.downcast::<OpenError>() {
            Ok(error) => error,
            Err(source) => OpenError::system("open", self.address, source),
        }
    }

    fn one_way(&self, action: &'static str) -> OpenError {
        let cause = "its direction is one-way";
        OpenError::new(action, self.address, OpenErrorKind::Unsupported, cause).with_cure(
            "use a two-way address such as unix:, or join two one-way addresses with connect_pair",
        )
    }
}
