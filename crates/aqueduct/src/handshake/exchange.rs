use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::future::{join, try_join};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::hello::{Hello, MAX_HELLO, ParseError, Verdict};
use super::limited::{LimitedSink, LimitedStream};
use super::{Error, What};
use crate::channel::{Channel, Receiver, Sender};
use crate::codec::{Codec, Format};
use crate::frame::{FrameError, FramedRead, FramedWrite, Framing};

/// How long the other side may take for the whole handshake, unless said otherwise: 5 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes of what is no handshake an error shows.
const SHOWN: usize = 32;

/// An opening handshake. Both sides do the same; see [the module](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    messages: String,
    timeout: Duration,
}

impl Handshake {
    /// A handshake for `messages`: a name with a version such as `chat/2`, or a
    /// [`fingerprint`](super::fingerprint) of the types. Both sides must give the same.
    pub fn new(messages: impl Into<String>) -> Self {
        Self {
            messages: messages.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Sets how long the other side may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes a typed channel of a two-way byte stream whose peer does the same.
    ///
    /// The largest frame offered is that of `framing`.
    ///
    /// # Errors
    ///
    /// See [`exchange`](Self::exchange). The connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Examples
    ///
    /// See [the module](super).
    pub async fn channel<Out, In, I, C>(
        &self,
        io: I,
        framing: Framing,
        codec: C,
    ) -> Result<Channel<Out, In>, Error>
    where
        I: AsyncRead + AsyncWrite + Send + 'static,
        C: Codec<Out> + Codec<In> + Clone + 'static,
    {
        let (sink, stream) = self.framed(io, framing, Format::name(&codec)).await?;
        Ok(Channel::new(
            Sender::new(sink, codec.clone()),
            Receiver::new(stream, codec),
        ))
    }

    /// Frames a two-way byte stream whose peer does the same.
    ///
    /// The largest frame offered is that of `framing`, and the agreed one becomes that of the two
    /// ends. During the handshake it is [`MAX_HELLO`].
    ///
    /// # Errors
    ///
    /// See [`exchange`](Self::exchange). The connection is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn framed<I>(
        &self,
        io: I,
        framing: Framing,
        codec: &str,
    ) -> Result<(FramedWrite<WriteHalf<I>>, FramedRead<ReadHalf<I>>), Error>
    where
        I: AsyncRead + AsyncWrite,
    {
        let offered = framing.get_max_frame();
        let opening = framing.max_frame(MAX_HELLO);
        let (read, write) = tokio::io::split(io);
        let mut sink = FramedWrite::new(write, opening.clone());
        let mut stream = FramedRead::new(read, opening);
        let agreed = self.exchange(&mut sink, &mut stream, codec, offered).await;
        let agreed = agreed.map_err(|error| match error {
            Error::NotSpoken { got, source } if got.is_empty() => Error::NotSpoken {
                got: shown(stream.read_buffer()),
                source,
            },
            error => error,
        })?;
        // The decoder's place in what it has read already stays.
        *stream.decoder_mut() = stream.decoder().clone().max_frame(agreed);
        *sink.encoder_mut() = sink.encoder().clone().max_frame(agreed);
        Ok((sink, stream))
    }

    /// Makes a typed channel of two ends at the waist, of any transport, whose peer does the same.
    ///
    /// # Errors
    ///
    /// See [`exchange`](Self::exchange).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops both ends.
    pub async fn channel_over<Out, In, S, R, C>(
        &self,
        sink: S,
        stream: R,
        max_frame: usize,
        codec: C,
    ) -> Result<Channel<Out, In>, Error>
    where
        S: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
        R: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        C: Codec<Out> + Codec<In> + Clone + 'static,
    {
        let name = Format::name(&codec);
        let (sink, stream) = self.frames(sink, stream, name, max_frame).await?;
        Ok(Channel::new(
            Sender::new(sink, codec.clone()),
            Receiver::new(stream, codec),
        ))
    }

    /// Does the handshake over two ends at the waist, of any transport, and limits them to the
    /// largest frame that was agreed on.
    ///
    /// # Errors
    ///
    /// See [`exchange`](Self::exchange).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops both ends.
    async fn frames<S, R>(
        &self,
        mut sink: S,
        mut stream: R,
        codec: &str,
        max_frame: usize,
    ) -> Result<(LimitedSink<S>, LimitedStream<R>), Error>
    where
        S: Sink<Bytes, Error = io::Error> + Unpin,
        R: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let agreed = self
            .exchange(&mut sink, &mut stream, codec, max_frame)
            .await?;
        Ok((
            LimitedSink::new(sink, agreed),
            LimitedStream::new(stream, agreed),
        ))
    }

    /// Does the handshake and nothing else: the limit that was agreed on is for the caller to keep.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`], which the other side gets too; [`Error::NotSpoken`] for garbage or
    /// another framing; [`Error::Closed`]; [`Error::TimedOut`] for silence; [`Error::BadName`];
    /// [`Error::Io`]. After any of them the ends are in no defined state: drop them.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a dropped future drop both ends.
    async fn exchange<S, R>(
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
        // That the other side did not hear us out, or hung up, does not change what is wrong.
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
        // Theirs is read too, so that closing with unread input does not destroy ours.
        let _ = join(telling, hearing).await;
        return Err(differs(what));
    }
    let (told, their_verdict) = try_join(telling.map(Ok), hearing).await?;
    told?;
    if let Verdict::No(what) = their_verdict {
        return Err(differs(what));
    }
    // Both are of our version here, so both have one.
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
