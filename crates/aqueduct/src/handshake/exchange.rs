use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::future::{join, try_join};
use futures_util::{FutureExt, SinkExt, StreamExt};

use super::hello::{Hello, MAX_HELLO, ParseError, Verdict};
use super::limited::{LimitedSink, LimitedStream};
use super::{Error, What};
use crate::channel::Channel;
use crate::codec::Codec;
use crate::connect::{ByteStream, Connection};
use crate::frame::{FrameError, FramedRead, FramedWrite};
use crate::io::timer::timeout;

/// How long the whole handshake may take, unless set otherwise: 5 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes of anything that is not a handshake an error shows.
const SHOWN: usize = 32;

/// An opening handshake. Both sides do the same; see [the module](super).
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::handshake::Handshake;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let chat = Handshake::new("chat/2");
/// let (here, there) = tokio::join!(
///     chat.channel::<String, String>(here, Text),
///     chat.channel::<String, String>(there, Text),
/// );
/// let (mut here, mut there) = (here?, there?);
/// here.send("hello".into()).await?;
/// assert_eq!(there.recv().await.transpose()?.as_deref(), Some("hello"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    messages: String,
    timeout: Duration,
}

impl Handshake {
    /// Creates a handshake for `messages`, which must be the same on both sides.
    ///
    /// `messages` is a name with a version such as `chat/2`, or a hash of the types' source.
    pub fn new(messages: impl Into<String>) -> Self {
        Self {
            messages: messages.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Sets how long the whole handshake may take (5 s by default).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates a typed channel over a connection whose peer does the same.
    ///
    /// # Errors
    ///
    /// See [`exchange`](Self::exchange).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Examples
    ///
    /// See [the module](super).
    pub async fn channel<Out, In>(
        &self,
        connection: Connection,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Result<Channel<Out, In>, Error> {
        let connection = self.exchange(connection, codec.name()).await?;
        Ok(connection.channel(codec))
    }

    /// Exchanges hellos over `connection`, for a codec of this name.
    ///
    /// Returns the connection with the agreed largest message, the smaller of the two sides'
    /// values. During the handshake the largest message is 256 bytes.
    ///
    /// # Errors
    ///
    /// - [`Error::Mismatch`] if the sides differ; the other side gets it too.
    /// - [`Error::NotSpoken`] for garbage or another framing.
    /// - [`Error::Closed`] if the peer closed, [`Error::TimedOut`] if it was silent.
    /// - [`Error::BadName`] if a name of this side is not valid.
    /// - [`Error::Io`] if the transport failed.
    ///
    /// The connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn exchange(
        &self,
        mut connection: Connection,
        codec: &str,
    ) -> Result<Connection, Error> {
        let offered = connection.max_message();
        let Some(bytes) = connection.take_bytes() else {
            let (mut sink, mut stream) = connection.into_frames();
            let agreed = self.agree(&mut sink, &mut stream, codec, offered).await?;
            let (sink, stream) = (
                LimitedSink::new(sink, agreed),
                LimitedStream::new(stream, agreed),
            );
            return Ok(Connection::from_frames(sink, stream, agreed));
        };
        let opening = connection.framing().clone().max_frame(MAX_HELLO);
        let (reader, writer) = bytes.halves();
        let mut sink = FramedWrite::new(writer, opening.clone());
        let mut stream = FramedRead::new(reader, opening);
        let agreed = self.agree(&mut sink, &mut stream, codec, offered).await;
        let agreed = agreed.map_err(|error| match error {
            Error::NotSpoken { got, source } if got.is_empty() => Error::NotSpoken {
                got: shown(stream.read_buffer()),
                source,
            },
            error => error,
        })?;
        let (writer, _) = sink.into_parts();
        let (reader, read) = stream.into_parts();
        let bytes = ByteStream::boxed(reader, writer);
        connection.put_bytes(bytes, read, agreed);
        Ok(connection)
    }

    /// Returns the largest frame that both sides accept.
    async fn agree<S, R>(
        &self,
        sink: &mut S,
        stream: &mut R,
        codec: &str,
        max_frame: usize,
    ) -> Result<usize, Error>
    where
        S: Sink<Bytes, Error = io::Error> + Unpin,
        R: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let hello = Hello::new(codec, max_frame, &self.messages).map_err(bad_name)?;
        let mut mismatch = None;
        let talk = talk(&hello, sink, stream, &mut mismatch);
        let result = match timeout(self.timeout, talk).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut {
                after: self.timeout,
            }),
        };
        // A peer that did not listen to the end, or hung up, does not change what is wrong.
        let result = mismatch.map_or(result, Err);
        match &result {
            Ok(max_frame) => tracing::debug!(max_frame, "handshake done"),
            Err(error) => tracing::debug!(%error, "handshake failed"),
        }
        result
    }
}

fn bad_name(error: ParseError) -> Error {
    Error::BadName(io::Error::new(io::ErrorKind::InvalidInput, error))
}

async fn talk<S, R>(
    ours: &Hello,
    sink: &mut S,
    stream: &mut R,
    mismatch: &mut Option<Error>,
) -> Result<usize, Error>
where
    S: Sink<Bytes, Error = io::Error> + Unpin,
    R: Stream<Item = io::Result<Bytes>> + Unpin,
{
    // Both at once: a transport may hold nothing until the other side reads.
    let hearing = receive(stream, Hello::parse);
    let (told, theirs) = try_join(sink.send(ours.to_frame()).map(Ok), hearing).await?;
    told?;

    let verdict = ours.judge(&theirs);
    let differs = |what: What| Error::Mismatch {
        what,
        ours: ours.value(what),
        theirs: theirs.value(what),
    };
    let telling = sink.send(verdict.to_frame());
    let hearing = receive(stream, Verdict::parse);
    if let Verdict::No(what) = verdict {
        *mismatch = Some(differs(what));
        // Theirs is read too, so that closing with unread input does not discard ours.
        let _ = join(telling, hearing).await;
        return Err(differs(what));
    }
    let (told, their_verdict) = try_join(telling.map(Ok), hearing).await?;
    told?;
    if let Verdict::No(what) = their_verdict {
        return Err(differs(what));
    }
    // Both have our version here, so both have a value.
    let max_frame = ours.max_frame().min(theirs.max_frame()).unwrap_or(0);
    Ok(max_frame)
}

async fn receive<R, T>(
    stream: &mut R,
    parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
) -> Result<T, Error>
where
    R: Stream<Item = io::Result<Bytes>> + Unpin,
{
    match stream.next().await {
        None => Err(Error::Closed),
        Some(Ok(frame)) => parse(&frame).map_err(|error| Error::NotSpoken {
            got: shown(&frame),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        }),
        Some(Err(error)) if FrameError::of(&error).is_some() => Err(Error::NotSpoken {
            got: String::new(),
            source: error,
        }),
        Some(Err(error)) => Err(error.into()),
    }
}

fn shown(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{shown}{more}")
}
