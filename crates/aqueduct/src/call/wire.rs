//! The messages of callers and responders, and their codec.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::channel::{Receiver, Sender};
use crate::codec::{BoxError, Codec, Decode, Encode, Format};
use crate::connect::Connection;

pub(super) const VERSION: u8 = 1;

const MAGIC: &[u8] = b"AQCL";

/// How much of an unknown message is kept, for errors.
const SHOWN: usize = 40;

const HELLO: u8 = 0;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const FAILURE: u8 = 3;
const CANCEL: u8 = 4;

/// One message.
#[derive(Debug)]
pub(super) enum Frame<T> {
    Hello(Hello),
    /// `limit` in milliseconds; 0 is none.
    Request {
        id: u64,
        limit: u32,
        body: T,
    },
    Reply {
        id: u64,
        body: T,
    },
    Failure {
        id: u64,
        failure: Failure,
    },
    Cancel {
        id: u64,
    },
    /// None of the above: its beginning.
    Unknown(Bytes),
}

impl<T> Frame<T> {
    /// Its name, for the error of a side that does not expect it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "a hello",
            Self::Request { .. } => "a request",
            Self::Reply { .. } => "a reply",
            Self::Failure { .. } => "a failure",
            Self::Cancel { .. } => "a cancel",
            Self::Unknown(_) => "something else",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u8,
    pub(super) concurrency: u32,
    pub(super) codec: String,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) text: String,
}

impl Failure {
    pub(super) const UNDECODABLE: u8 = 1;
    pub(super) const UNSENDABLE: u8 = 2;
    pub(super) const CANCELLED: u8 = 3;
    pub(super) const LATE: u8 = 4;
    pub(super) const STOPPING: u8 = 5;
    pub(super) const TOO_MANY: u8 = 6;
    /// Never sent: the reply has arrived and cannot be decoded.
    pub(super) const REPLY: u8 = 0;

    pub(super) fn new(code: u8, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }
}

impl Hello {
    pub(super) fn new(concurrency: u32, codec: &str) -> Self {
        Self {
            version: VERSION,
            concurrency,
            codec: codec.to_owned(),
        }
    }
}

/// Both ends of a connection that carries calls.
pub(super) type Ends<Out, In> = (Sender<Frame<Out>>, Receiver<Frame<Body<In>>>);

/// Returns the ends of a connection, if it can carry calls.
pub(super) fn open<Out, In, C>(connection: Connection, codec: C) -> Option<Ends<Out, In>>
where
    C: Codec<Out> + Codec<In> + Clone + 'static,
{
    if !connection.carries_any_bytes() {
        return None;
    }
    let (sender, receiver) = connection.into_split();
    let (sender, receiver) = (
        sender.typed(Wire(codec.clone())),
        receiver.typed(Wire(codec)),
    );
    Some((sender, receiver))
}

/// A received body. One that cannot be decoded fails only its own call.
pub(super) type Body<T> = Result<T, BoxError>;

/// A codec of messages over a codec of bodies.
#[derive(Clone, Debug)]
struct Wire<C>(C);

impl<C: Format> Format for Wire<C> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl<T, C: Encode<T>> Encode<Frame<T>> for Wire<C> {
    fn encode(&self, frame: &Frame<T>, dst: &mut BytesMut) -> Result<(), BoxError> {
        match frame {
            Frame::Hello(hello) => {
                dst.put_u8(HELLO);
                dst.put_slice(MAGIC);
                dst.put_u8(hello.version);
                dst.put_u32(hello.concurrency);
                dst.put_slice(hello.codec.as_bytes());
            }
            Frame::Request { id, limit, body } => {
                dst.put_u8(REQUEST);
                dst.put_u64(*id);
                dst.put_u32(*limit);
                self.0.encode(body, dst)?;
            }
            Frame::Reply { id, body } => {
                dst.put_u8(REPLY);
                dst.put_u64(*id);
                self.0.encode(body, dst)?;
            }
            Frame::Failure { id, failure } => {
                dst.put_u8(FAILURE);
                dst.put_u64(*id);
                dst.put_u8(failure.code);
                dst.put_slice(failure.text.as_bytes());
            }
            Frame::Cancel { id } => {
                dst.put_u8(CANCEL);
                dst.put_u64(*id);
            }
            Frame::Unknown(bytes) => dst.put_slice(bytes),
        }
        Ok(())
    }
}

impl<T, C: Decode<T>> Decode<Frame<Body<T>>> for Wire<C> {
    fn decode(&self, body: Bytes) -> Result<Frame<Body<T>>, BoxError> {
        let whole = body.clone();
        Ok(read(body, &whole, |body| self.0.decode(body)))
    }

    fn decode_borrowed(&self, body: &[u8]) -> Result<Frame<Body<T>>, BoxError> {
        Ok(read(body, body, |body| self.0.decode_borrowed(body)))
    }

    fn borrows(&self) -> bool {
        self.0.borrows()
    }
}

/// Parses a message; `body` makes an item of the bytes after the header.
fn read<T, B: Buf>(
    mut rest: B,
    whole: &[u8],
    body: impl FnOnce(B) -> Result<T, BoxError>,
) -> Frame<Body<T>> {
    let mut header = || {
        let kind = rest.try_get_u8().ok()?;
        if kind == HELLO {
            return Some(Frame::Hello(hello(rest.chunk())?));
        }
        let id = rest.try_get_u64().ok()?;
        Some(match kind {
            REQUEST => Frame::Request {
                id,
                limit: rest.try_get_u32().ok()?,
                body: (),
            },
            REPLY => Frame::Reply { id, body: () },
            FAILURE => {
                let code = rest.try_get_u8().ok()?;
                let text = String::from_utf8_lossy(rest.chunk());
                Frame::Failure {
                    id,
                    failure: Failure::new(code, text),
                }
            }
            CANCEL => Frame::Cancel { id },
            _ => return None,
        })
    };
    match header() {
        Some(Frame::Request { id, limit, .. }) => Frame::Request {
            id,
            limit,
            body: body(rest),
        },
        Some(Frame::Reply { id, .. }) => Frame::Reply {
            id,
            body: body(rest),
        },
        Some(Frame::Hello(hello)) => Frame::Hello(hello),
        Some(Frame::Failure { id, failure }) => Frame::Failure { id, failure },
        Some(Frame::Cancel { id }) => Frame::Cancel { id },
        Some(Frame::Unknown(_)) | None => {
            Frame::Unknown(Bytes::copy_from_slice(&whole[..whole.len().min(SHOWN)]))
        }
    }
}

/// The fields of a later version are not looked at.
fn hello(mut rest: &[u8]) -> Option<Hello> {
    rest = rest.strip_prefix(MAGIC)?;
    let version = rest.try_get_u8().ok()?;
    if version != VERSION {
        return Some(Hello {
            version,
            concurrency: 0,
            codec: String::new(),
        });
    }
    Some(Hello {
        version,
        concurrency: rest.try_get_u32().ok()?,
        codec: String::from_utf8_lossy(rest).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Raw, Text};

    fn round_trip(frame: &Frame<&'static str>) -> String {
        let mut wire = BytesMut::new();
        Wire(Text).encode(frame, &mut wire).unwrap();
        let lent: Frame<Body<String>> = Wire(Text).decode_borrowed(&wire).unwrap();
        let kept: Frame<Body<Bytes>> = Wire(Raw).decode(wire.freeze()).unwrap();
        let (lent, kept) = (format!("{lent:?}"), format!("{kept:?}"));
        assert_eq!(lent, kept.replace("b\"", "\""));
        lent
    }

    #[test]
    fn each_kind_of_message_comes_back() {
        let hello = Frame::Hello(Hello::new(3, "json"));
        let text = round_trip(&hello);
        assert!(text.contains("concurrency: 3") && text.contains("\"json\""));
        let (id, limit) = (u64::MAX - 1, 77);
        let text = round_trip(&Frame::Request {
            id,
            limit,
            body: "q",
        });
        assert_eq!(
            text,
            format!("Request {{ id: {id}, limit: 77, body: Ok(\"q\") }}")
        );
        assert!(round_trip(&Frame::Reply { id, body: "" }).ends_with("body: Ok(\"\") }"));
        let failure = Failure::new(Failure::LATE, "late");
        assert!(round_trip(&Frame::Failure { id, failure }).contains("code: 4, text: \"late\""));
        assert_eq!(
            round_trip(&Frame::Cancel { id }),
            format!("Cancel {{ id: {id} }}")
        );
    }

    #[test]
    fn anything_else_is_unknown_and_never_panics() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x03\0\0\0\0\0\0\0\x01",
            b"\0AQC",
            b"\0AQCL",
            b"GET / HTTP/1.1",
        ] {
            let frame: Frame<Body<String>> = Wire(Text).decode_borrowed(bytes).unwrap();
            assert!(matches!(frame, Frame::Unknown(_)), "{frame:?}");
        }
        let later: Frame<Body<String>> = Wire(Text).decode_borrowed(b"\0AQCL\x02?").unwrap();
        assert!(matches!(later, Frame::Hello(Hello { version: 2, .. })));
    }
}
