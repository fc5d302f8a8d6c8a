//! Two one-way endpoints as one connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::MessageLink;
use super::receipt::Last;
use super::receiver::Inlet;
use super::{
    Connection, Endpoint, Message, MessageReceiver, MessageSender, OpenError, OpenErrorKind,
    Options, Peer,
};

/// How long a client of [`Options::accept_pairs`] that has sent a request may take to open its end
/// for the replies, unless [`Options::wait`] says otherwise: 1 s.
const REPLIES_WAIT: Duration = Duration::from_secs(1);

impl Options {
    /// Joins two one-way endpoints into one connection.
    ///
    /// It sends to `requests` and receives from `replies`. The other side
    /// [accepts](Self::accept_pairs) the same two. The mechanisms may differ: `fifo:`, `mq:`,
    /// descriptors of pipes.
    ///
    /// - If the mechanism needs a server, this waits for it as [`open_sender`](Self::open_sender)
    ///   does.
    /// - **End of stream**: over a queue an empty message marks the end of a direction, when the
    ///   sending half is closed or dropped. So an empty message cannot be sent over a pair of
    ///   queues; it is refused with [`FrameError::Empty`](crate::frame::FrameError::Empty).
    /// - Messages that an earlier conversation left in a queue for `replies` are discarded, with a
    ///   `tracing` warning.
    /// - **One client at a time**: the mechanisms cannot distinguish clients. The next one may
    ///   connect when this one has received the end of its replies. Messages left in a queue by a
    ///   killed client, or by one that the server gave up on, begin the next conversation.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait and leaves nothing open. A FIFO or queue that
    /// it created stays.
    ///
    /// # Examples
    ///
    /// A service over two queues:
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Options;
    /// use aqueduct::service::{self, CancellationToken};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let requests: Endpoint = format!("fifo:{}/requests", dir.path().display()).parse()?;
    /// # let replies: Endpoint = format!("fifo:{}/replies", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let requests: Endpoint = "mq:/requests".parse()?;
    /// let replies: Endpoint = "mq:/replies".parse()?;
    /// # "#;
    /// let clients = Options::new().accept_pairs(requests.clone(), replies.clone());
    /// let stop = CancellationToken::new();
    /// let service = aqueduct::serve(clients, stop.clone(), |client, cx| async move {
    ///     let client = cx.channel::<String, String>(client, Text);
    ///     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
    /// });
    /// let service = tokio::spawn(service);
    ///
    /// let server = Options::new().connect_pair(&requests, &replies).await?;
    /// let mut server = server.channel::<String, String>(Text);
    /// server.send("hello".into()).await?;
    /// assert_eq!(server.recv().await.transpose()?, Some("HELLO".into()));
    /// server.close().await?;
    /// assert!(server.recv().await.is_none());
    /// # stop.cancel();
    /// # service.await??;
    /// # Ok(()) }
    /// ```
    pub async fn connect_pair(
        &self,
        requests: &Endpoint,
        replies: &Endpoint,
    ) -> Result<Connection, OpenError> {
        let options = self.paired();
        // The server waits for the reader of its replies, so that end is opened first.
        let receiver = options.open_receiver(replies).await?;
        let old = replies.drain(self)?;
        if old > 0 {
            tracing::warn!(
                target: "aqueduct::connect", address = %replies, messages = old,
                "dropped messages left by an earlier conversation"
            );
        }
        let sender = options.open_sender(requests).await?;
        let pair = Pair { sender, receiver };
        let framing = self.framing.clone();
        Ok(Connection::messages(pair, framing, Peer::Unknown))
    }

    /// Accepts one client at a time over two one-way endpoints.
    ///
    /// Returns a stream of connections that receive from `requests` and send to `replies`. The
    /// other side [connects](Self::connect_pair) the same two, and the same limits hold; see the
    /// example there.
    ///
    /// A client is present once its first message has arrived. The next one is accepted when both
    /// halves of the connection before it are closed or dropped.
    ///
    /// If an endpoint cannot be opened again (`fd:`, `stdio:`, `exec:`), the stream ends after one
    /// client.
    ///
    /// # Errors
    ///
    /// If a client has sent a request but not opened its end for the replies, the stream waits for
    /// it as long as [`wait`](Self::wait) says, by default one second. Then it gives up on that
    /// client with a `tracing` warning, and goes on. ([`connect_pair`](Self::connect_pair) opens
    /// that end first.) Any other error is an item, and the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping a future of `next()` loses no client and no message. A FIFO or queue
    /// that it created stays.
    pub fn accept_pairs(
        &self,
        requests: Endpoint,
        replies: Endpoint,
    ) -> impl Stream<Item = io::Result<Connection>> + Send + Unpin + use<> {
        let once = requests.capabilities().private || replies.capabilities().private;
        let accepting = Accepting {
            options: self.paired(),
            requests,
            replies,
            once,
            turn: Arc::new(Semaphore::new(1)),
        };
        let pairs = stream::unfold(Some(accepting), |accepting: Option<Accepting>| async move {
            let accepting = accepting?;
            match accepting.accept().await {
                Ok(connection) => {
                    let more = (!accepting.once).then_some(accepting);
                    Some((Ok(connection), more))
                }
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        Box::pin(pairs)
    }

    fn paired(&self) -> Self {
        let mut options = self.clone();
        options.paired = true;
        options
    }
}

/// The accepting side of a pair.
struct Accepting {
    options: Options,
    requests: Endpoint,
    replies: Endpoint,
    once: bool,
    /// Held by both halves of the current connection.
    turn: Arc<Semaphore>,
}

impl Accepting {
    async fn accept(&self) -> Result<Connection, OpenError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        // It is never closed.
        let turn =
            turn.map_err(|e| OpenError::system("accept on", &self.requests, io::Error::other(e)))?;
        let turn = Arc::new(turn);
        loop {
            let mut incoming = self.options.open_receiver(&self.requests).await?;
            // Not before there is a request: the previous client has to see the end of its replies,
            // which a second sender to the FIFO would delay.
            let Some(first) = incoming.next().await else {
                continue;
            };
            let mut options = self.options.clone();
            options.wait(self.options.wait.or(Some(REPLIES_WAIT)));
            let outgoing = match options.open_sender(&self.replies).await {
                Err(error) if !self.once && timed_out(&error) => {
                    tracing::warn!(target: "aqueduct::connect", %error, "cannot serve a client");
                    continue;
                }
                opened => opened?,
            };
            let largest = outgoing.max_message();
            let mut held = MessageSender::new(InTurn {
                outgoing,
                _turn: Arc::clone(&turn),
            });
            if let Some(largest) = largest {
                held = held.with_max_message(largest);
            }
            let conversation = Conversation::new(incoming).beginning(first, turn);
            let pair = Pair {
                sender: held,
                receiver: MessageReceiver::new(conversation),
            };
            let framing = self.options.framing.clone();
            return Ok(Connection::messages(pair, framing, Peer::Unknown));
        }
    }
}

fn timed_out(error: &OpenError) -> bool {
    matches!(error.kind(), OpenErrorKind::TimedOut { .. })
}

/// Two one-way ends.
struct Pair {
    sender: MessageSender,
    receiver: MessageReceiver,
}

impl MessageLink for Pair {
    fn max_message(&self) -> Option<usize> {
        self.sender.max_message()
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        (self.sender, self.receiver)
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        MessageReceiver::new(Conversation::new(self.receiver).holding(self.sender))
    }

    fn lingers(&self) -> bool {
        // The peer has to find this end open.
        true
    }
}

/// The incoming direction of one conversation.
struct Conversation {
    /// `None` once it has ended. Its descriptor is then closed too: another client may follow as
    /// soon as this one has seen the end of its replies, and must not find this end open.
    incoming: Option<MessageReceiver>,
    first: Option<io::Result<Message>>,
    last: Last,
    left: Option<u64>,
    held: Option<MessageSender>,
    turn: Option<Arc<OwnedSemaphorePermit>>,
}

impl Conversation {
    fn new(incoming: MessageReceiver) -> Self {
        Self {
            incoming: Some(incoming),
            first: None,
            last: Last::default(),
            left: None,
            held: None,
            turn: None,
        }
    }

    /// Begins with `first`, and keeps the next conversation waiting until this one is over.
    fn beginning(mut self, first: io::Result<Message>, turn: Arc<OwnedSemaphorePermit>) -> Self {
        self.first = Some(first);
        self.turn = Some(turn);
        self
    }

    /// Keeps the other direction open until this one has ended.
    fn holding(mut self, outgoing: MessageSender) -> Self {
        self.held = Some(outgoing);
        self
    }
}

impl Stream for Conversation {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        self.last.settle();
        let mut next = match (self.first.take(), &mut self.incoming) {
            (Some(first), _) => Some(first),
            (None, Some(incoming)) => ready!(Pin::new(incoming).poll_next(cx)),
            (None, None) => None,
        };
        if let Some(Ok(message)) = &mut next {
            self.last.keep(message);
        }
        match &next {
            Some(_) => {
                if let Some(left) = &mut self.left {
                    *left -= 1;
                }
            }
            None => {
                self.incoming = None;
                self.held = None;
                self.turn = None;
            }
        }
        Poll::Ready(next)
    }
}

impl Inlet for Conversation {
    fn stop(mut self: Pin<&mut Self>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.stop();
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
        let first = u64::from(self.first.is_some());
        if let Some(incoming) = &mut self.incoming {
            incoming.limit(count.saturating_sub(first));
        }
    }

    fn unfinished(mut self: Pin<&mut Self>) -> usize {
        self.incoming
            .as_mut()
            .map_or(0, MessageReceiver::unfinished)
    }
}

/// A sending end that is closed before the next conversation begins.
struct InTurn {
    outgoing: MessageSender,
    _turn: Arc<OwnedSemaphorePermit>,
}

impl Sink<Message> for InTurn {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        Pin::new(&mut self.outgoing).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_close(cx)
    }
}
