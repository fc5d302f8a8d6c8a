//! How an address is opened, resolved.

use std::fmt::Display;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::bytes::{Bytes, BytesMut};
use aqueduct::connect::Options;
use aqueduct::endpoint::{Awaited, Direction, EndOfStream};
use aqueduct::frame::{self, FrameError, Framing};
use tokio_util::codec::Encoder;

use crate::cli::{Clients, Frame, Input, Link, Partial, TooLong, Unfit};
use crate::exit::Failure;
use crate::input::Cut;
use crate::quantity::Wait;

/// How long to wait for a peer, except where there is no limit.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// How often the name of a queue is checked: a queue that another program has removed receives
/// nothing more.
const CHECK_NAME_EVERY: Duration = Duration::from_secs(1);

/// Which side of a two-way address to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Connect,
    Bind,
}

/// Whether an end outlives its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    No,
    Yes,
}

impl From<bool> for Lasting {
    fn from(reconnect: bool) -> Self {
        match reconnect {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

#[derive(Clone)]
pub(crate) struct LinkConfig {
    /// That of the flag or the address. A message-oriented address has none.
    pub(crate) frame: Option<Frame>,
    pub(crate) framing: Framing,
    /// `--frame raw` was given for an address that ignores it.
    pub(crate) raw_ignored: bool,
    pub(super) max_frame: usize,
    pub(crate) wait: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) allow_foreign_owner: bool,
    pub(crate) clients: ClientsConfig,
}

/// Limits on the clients of a bound socket, as they were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientsConfig {
    pub(crate) connections: Option<usize>,
    pub(crate) first: Option<Wait>,
    pub(crate) idle: Option<Wait>,
}

impl Clients {
    pub(super) fn resolve(self) -> ClientsConfig {
        ClientsConfig {
            connections: self.max_connections.map(|it| it as usize),
            first: self.first_timeout,
            idle: self.idle_timeout,
        }
    }
}

impl LinkConfig {
    /// Whether it moves bytes without boundaries.
    pub(crate) fn is_raw(&self) -> bool {
        self.frame == Some(Frame::Raw)
    }

    /// The largest message: no limit for bytes without boundaries.
    pub(crate) fn largest(&self) -> usize {
        match self.frame {
            Some(_) => self.framing.get_max_frame(),
            None => self.max_frame,
        }
    }

    /// How standard input is cut: as was asked for, or else as usual.
    pub(super) fn cut(&self, input: Option<Input>, usual: Input) -> anyhow::Result<Cut> {
        match input {
            None | Some(Input::Whole) if self.is_raw() => Ok(Cut::Pieces),
            Some(_) if self.is_raw() => Err(Failure::wrong_use(
                "--frame raw sends standard input as it is, byte for byte: leave --input out, or \
                 choose a framing that keeps messages apart",
            )),
            input => Ok(match input.unwrap_or(usual) {
                Input::Lines if self.frame == Some(Frame::Crlf) => Cut::Crlf,
                input => input.into(),
            }),
        }
    }

    /// What a peer that knows another protocol may miss in a request.
    pub(crate) fn missing(&self) -> &'static str {
        match self.frame {
            Some(Frame::Lines | Frame::Crlf) => "; it may expect another framing: see --frame",
            Some(Frame::Nul) => {
                "; it may expect a newline rather than a NUL byte after a message: see --frame"
            }
            Some(Frame::Binary) => {
                "; it may expect no length before a message, or another one: see --frame"
            }
            Some(Frame::Raw) => {
                "; it may expect a newline, which --frame lines adds, or hang up when it sees the end of \
                 the request, which --keep-open leaves out"
            }
            None => "",
        }
    }

    /// The library's options for opening an address.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new();
        options
            .framing(self.framing.clone())
            .wait(self.wait)
            .watch_name(Some(CHECK_NAME_EVERY))
            .sole_reader(true)
            .allow_foreign_owner(self.allow_foreign_owner);
        if let Some(connections) = self.clients.connections {
            options.max_connections(connections);
        }
        if let Some(first) = self.clients.first {
            options.first_timeout(first.limit());
        }
        if let Some(idle) = self.clients.idle {
            options.idle_timeout(idle.limit());
        }
        options
    }

    /// Why `what` is not sent, with the flag that helps.
    pub(crate) fn refused(&self, what: impl Display, error: &std::io::Error) -> String {
        match FrameError::of(error) {
            // A limit of the transport.
            Some(FrameError::TooLarge { len, max }) if *max < self.max_frame => {
                format!("{what} has {len} bytes, and the address takes at most {max}")
            }
            _ => refused(what, error),
        }
    }

    /// Why a message cannot be sent, if so.
    pub(crate) fn check(&self, message: &Bytes) -> Result<(), std::io::Error> {
        // What keeps boundaries itself uses no framing.
        if self.frame.is_some() {
            let mut framing = self.framing.clone();
            framing.encode(message.clone(), &mut BytesMut::new())?;
        }
        Ok(())
    }
}

/// Which side to be. Only what is both connected and bound can be turned round.
pub(super) fn side(endpoint: &Endpoint, wanted: Option<Side>, usual: Side) -> anyhow::Result<Side> {
    match (endpoint.capabilities().listens, wanted) {
        (_, None) => Ok(usual),
        (Some(true), Some(side)) if side == usual || has_connections(endpoint) => Ok(side),
        (_, Some(side)) => {
            let flag = match side {
                Side::Connect => "--connect",
                Side::Bind => "--bind",
            };
            let scheme = endpoint.scheme().name;
            Err(Failure::wrong_use(format!(
                "{flag} is for sockets that accept connections: {scheme} has none"
            )))
        }
    }
}

/// Refuses an address that goes one way, and names what is for it.
pub(super) fn expect_two_way(
    endpoint: &Endpoint,
    command: &str,
    instead: &str,
) -> anyhow::Result<()> {
    if endpoint.capabilities().direction == Direction::OneWay {
        let scheme = endpoint.scheme().name;
        return Err(Failure::wrong_use(format!(
            "{command} is for two-way addresses, and {scheme} is one-way: use {instead}"
        )));
    }
    Ok(())
}

/// Whether clients connect to a bound address, rather than send datagrams to it.
pub(crate) fn has_connections(endpoint: &Endpoint) -> bool {
    endpoint.capabilities().listens == Some(true) && has_end(endpoint)
}

/// Whether each message is a datagram.
pub(crate) fn has_datagrams(endpoint: &Endpoint) -> bool {
    endpoint.capabilities().listens == Some(true) && !has_end(endpoint)
}

/// Whether the stream of what a peer sends can end.
pub(crate) fn has_end(endpoint: &Endpoint) -> bool {
    endpoint.capabilities().end_of_stream != EndOfStream::Never
}

impl Link {
    pub(super) fn resolve(&self, endpoint: &Endpoint) -> anyhow::Result<LinkConfig> {
        self.resolve_or(endpoint, Framing::lines())
    }

    /// As [`resolve`](Self::resolve), with another framing where none is asked for.
    pub(super) fn resolve_or(
        &self,
        endpoint: &Endpoint,
        usual: Framing,
    ) -> anyhow::Result<LinkConfig> {
        let framing = match (&self.frame, endpoint.framing()) {
            (Some(asked), Some(own)) if asked != own => {
                return Err(Failure::wrong_use(format!(
                    "--frame {asked} differs from frame={own} in {endpoint}: leave one of the two out"
                )));
            }
            (asked, own) => asked.as_ref().or(own).cloned(),
        };
        let framing = framing.unwrap_or(usual);
        let capabilities = endpoint.capabilities();
        let default = match capabilities.awaits {
            Awaited::Reader => Wait::Forever,
            _ => Wait::For(DEFAULT_WAIT),
        };
        let is_framed = capabilities.keeps_boundaries != Some(true);
        Ok(LinkConfig {
            frame: is_framed.then(|| Frame::from(&framing)),
            raw_ignored: !is_framed && self.frame.is_some() && Frame::from(&framing) == Frame::Raw,
            framing: framing.max_frame(self.max_frame),
            max_frame: self.max_frame,
            wait: self.wait.unwrap_or(default).limit(),
            timeout: self.timeout,
            allow_foreign_owner: self.allow_foreign_owner,
            clients: ClientsConfig::default(),
        })
    }
}

impl Unfit {
    /// What was asked for; without a word of it, what is usual for the endpoint.
    pub(super) fn apply(&self, mut link: LinkConfig, from: &Endpoint) -> LinkConfig {
        if has_datagrams(from) {
            // One sender's oversized datagram does not end the stream for the others.
            link.framing = link.framing.too_long(frame::TooLong::Skip);
        }
        if let Some(partial) = self.partial {
            link.framing = link.framing.partial(match partial {
                Partial::Keep => frame::Partial::Keep,
                Partial::Drop => frame::Partial::Drop,
            });
        }
        if let Some(too_long) = self.too_long {
            link.framing = link.framing.too_long(match too_long {
                TooLong::Fail => frame::TooLong::Fail,
                TooLong::Skip => frame::TooLong::Skip,
                TooLong::Truncate => frame::TooLong::Truncate,
            });
        }
        link
    }

    /// As [`apply`](Self::apply), for what works on from message to message: what a peer that was
    /// killed left behind is none, unless all comes from one finite input.
    pub(super) fn apply_to_work(&self, mut link: LinkConfig, from: &Endpoint) -> LinkConfig {
        let of = from.capabilities();
        if !of.private && !of.stdio {
            link.framing = link.framing.partial(frame::Partial::Drop);
        }
        self.apply(link, from)
    }
}

/// What to say if the length of a received message looks like another framing.
pub(crate) fn wrong_guess(error: &std::io::Error) -> Option<String> {
    let plain = FrameError::of(error)?.to_string();
    let said = error.to_string();
    // The library knows more than size and limit.
    (said != plain).then(|| {
        format!("{said}; check that both sides use the same --frame, or raise --max-frame")
    })
}

/// Why `what` is not sent, with the flag that helps.
pub(crate) fn refused(what: impl Display, error: &std::io::Error) -> String {
    if let Some(sentence) = wrong_guess(error) {
        return sentence;
    }
    match FrameError::of(error) {
        Some(FrameError::TooLarge { len, max }) => {
            let (unit, raise) = ("bytes", "raise --max-frame on both sides");
            format!("{what} has {len} {unit}, over the limit of {max}: {raise}")
        }
        Some(FrameError::ContainsDelimiter { delimiter, at }) => {
            let (name, cure) = match delimiter {
                b'\n' => ("a newline", "--frame nul or --frame length"),
                _ => ("a NUL byte", "--frame length"),
            };
            format!("{what} has {name} in it (byte {at}), which would end it: use {cure}")
        }
        _ => format!("{what} cannot be sent: {error}"),
    }
}
