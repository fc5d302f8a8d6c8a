//! Codecs: convert typed items to frame bodies and back.
//!
//! A codec works above the framing and gets whole bodies. A body that does not parse is one
//! error item, and the stream continues.
//!
//! | codec | items | cargo feature | use it if |
//! |---|---|---|---|
//! | [`Json`] | serde types | `json` (default) | people or other languages read the messages |
//! | [`MessagePack`] | serde types | `messagepack` | other languages read them; smaller than JSON |
//! | [`Postcard`] | serde types | `postcard` | both sides share the Rust type; smallest and fastest |
//! | [`Text`] | strings | | the peer speaks plain text |
//! | [`Raw`] | bytes | | you serialise yourself; no copy in either direction |
//!
//! # A custom codec
//!
//! A custom codec implements [`Format`] for its name, and [`Encode`], [`Decode`] or both:
//!
//! ```
//! use aqueduct::bytes::{Bytes, BytesMut};
//! use aqueduct::codec::{BoxError, Decode, Encode, Format};
//!
//! #[derive(Clone)]
//! struct Number;
//!
//! impl Format for Number {
//!     fn name(&self) -> &'static str { "number" }
//! }
//! impl Encode<u32> for Number {
//!     fn encode(&self, n: &u32, dst: &mut BytesMut) -> Result<(), BoxError> {
//!         Ok(dst.extend_from_slice(n.to_string().as_bytes()))
//!     }
//! }
//! impl Decode<u32> for Number {
//!     fn decode(&self, body: Bytes) -> Result<u32, BoxError> { Ok(str::from_utf8(&body)?.parse()?) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let (mut left, mut right) = aqueduct::Channel::<u32, u32>::pair(Number);
//! left.send(42).await?;
//! assert_eq!(right.recv().await.transpose()?, Some(42));
//! # Ok(()) }
//! ```
//!
//! # Untrusted peers
//!
//! The largest frame bounds the input of a codec. JSON and MessagePack also bound nesting: a
//! received body that nests deeper than 128 levels is a decode error, before it can exhaust the
//! stack. Postcard does not, which matters for recursive types.

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
#[cfg(feature = "postcard")]
mod postcard;
mod raw;
mod text;

use bytes::{Bytes, BytesMut};

#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "messagepack")]
pub use self::messagepack::MessagePack;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use self::raw::Raw;
pub use self::text::Text;

/// The error of a codec for an item or a body that it cannot convert.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How deep received MessagePack values may nest; serde_json has the same limit.
#[cfg(feature = "messagepack")]
const MAX_DEPTH: usize = 128;

/// A data format with a name.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::{Format, Text};
///
/// assert_eq!(Text.name(), "text");
/// ```
pub trait Format: Send + Sync {
    /// Returns the name, for errors and handshakes.
    ///
    /// The name is short and lower case. It never changes while the bytes mean the same.
    fn name(&self) -> &'static str;
}

/// A format that serialises items of type `T`.
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::BytesMut;
/// use aqueduct::codec::{Encode, Text};
///
/// let mut body = BytesMut::new();
/// Text.encode(&"hello", &mut body)?;
/// assert_eq!(body, "hello");
/// # Ok::<(), aqueduct::codec::BoxError>(())
/// ```
///
/// The [module](self) has an implementation.
pub trait Encode<T>: Format {
    /// Appends the serialised item to `dst`.
    ///
    /// Bytes that are already there belong to other messages: a codec that changes them ends the
    /// sender with an error.
    ///
    /// # Errors
    ///
    /// The item cannot be expressed in this format. The caller discards the appended bytes, and
    /// nothing of the item is sent.
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError>;

    /// Turns the item into a body. `scratch` is empty and may be used to build it.
    ///
    /// The provided method encodes into `scratch` and splits the body off, so that the memory is
    /// reused for later items. Override it only if the item already is the body.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode).
    fn encode_owned(&self, item: T, scratch: &mut BytesMut) -> Result<Bytes, BoxError> {
        self.encode(&item, scratch)?;
        Ok(scratch.split().freeze())
    }

    /// Returns whether items are bodies already.
    ///
    /// If so, [`encode_owned`](Self::encode_owned) returns them unchanged and is called for each
    /// item. Otherwise either method may be called.
    fn hands_over(&self) -> bool {
        false
    }
}

/// A format that deserialises items of type `T`.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::{Decode, Text};
///
/// let text: String = Text.decode("hello".into())?;
/// assert_eq!(text, "hello");
/// # Ok::<(), aqueduct::codec::BoxError>(())
/// ```
///
/// The [module](self) has an implementation.
pub trait Decode<T>: Format {
    /// Turns one whole body into an item.
    ///
    /// # Errors
    ///
    /// The body does not parse, or has bytes left after the item.
    fn decode(&self, body: Bytes) -> Result<T, BoxError>;

    /// Turns a borrowed body into an item, as [`decode`](Self::decode) does.
    ///
    /// The provided method copies the body.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    fn decode_borrowed(&self, body: &[u8]) -> Result<T, BoxError> {
        self.decode(Bytes::copy_from_slice(body))
    }

    /// Returns whether [`decode_borrowed`](Self::decode_borrowed) needs no copy.
    ///
    /// If so, receivers call it wherever they can, which saves a frame per item.
    fn borrows(&self) -> bool {
        false
    }
}

/// A format that works both ways for `T`. Implemented for every such format.
///
/// # Examples
///
/// ```
/// use aqueduct::Channel;
/// use aqueduct::codec::{Codec, Text};
///
/// fn pair_of<T: 'static>(codec: impl Codec<T> + Clone + 'static) -> (Channel<T, T>, Channel<T, T>) {
///     Channel::pair(codec)
/// }
/// let (here, there) = pair_of::<String>(Text);
/// # drop((here, there));
/// ```
pub trait Codec<T>: Encode<T> + Decode<T> {}

impl<T, C: Encode<T> + Decode<T>> Codec<T> for C {}

/// Bytes are left after an item that ended before its frame did.
#[cfg(any(feature = "postcard", feature = "messagepack"))]
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over after the item")]
struct TrailingBytes;

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes, decodes, and returns both the body and the item.
    pub(super) fn round_trip<T, C: Codec<T>>(codec: &C, item: T) -> (Bytes, T) {
        let body = codec.encode_owned(item, &mut BytesMut::new()).unwrap();
        let item = codec.decode(body.clone()).unwrap();
        (body, item)
    }

    #[test]
    fn text_is_its_utf8_bytes_and_nothing_else() {
        let (body, text) = round_trip(&Text, String::from("zwölf\n"));
        assert_eq!(body, "zwölf\n".as_bytes());
        assert_eq!(text, "zwölf\n");
        assert!(Decode::<String>::decode(&Text, Bytes::from_static(b"\xff")).is_err());
        assert_eq!(Decode::<String>::decode(&Text, Bytes::new()).unwrap(), "");
    }

    #[test]
    fn raw_copies_in_neither_direction() {
        let bytes = Bytes::from(vec![7; 100]);
        let at = bytes.as_ptr();
        let (body, back) = round_trip(&Raw, bytes);
        assert_eq!((body.as_ptr(), back.as_ptr()), (at, at));

        let vec = vec![7; 100];
        let at = vec.as_ptr();
        let body = Raw.encode_owned(vec, &mut BytesMut::new()).unwrap();
        assert_eq!(body.as_ptr(), at);
    }

    #[cfg(feature = "json")]
    mod serde_formats {
        use proptest::prelude::*;
        use serde::{Deserialize, Serialize};

        use super::*;

        #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
        enum Shape {
            Nothing,
            Text(String),
            Point { x: i64, label: Option<String> },
            Many(Vec<u8>, (bool, char)),
        }

        fn shape() -> impl Strategy<Value = Shape> {
            let text = || any::<Option<String>>();
            prop_oneof![
                Just(Shape::Nothing),
                any::<String>().prop_map(Shape::Text),
                (any::<i64>(), text()).prop_map(|(x, label)| Shape::Point { x, label }),
                (any::<Vec<u8>>(), any::<(bool, char)>()).prop_map(|(a, b)| Shape::Many(a, b)),
            ]
        }

        fn check<C: Codec<Shape>>(codec: &C, item: &Shape, noise: &[u8]) {
            let (body, back) = round_trip(codec, item.clone());
            assert_eq!(&back, item);

            let mut longer = BytesMut::from(&body[..]);
            longer.extend_from_slice(b"\x91");
            assert!(codec.decode(longer.freeze()).is_err(), "bytes left over");
            for cut in 0..body.len() {
                assert!(codec.decode(body.slice(..cut)).is_err(), "cut at {cut}");
            }
            // Must not panic, whatever the result.
            let _ = codec.decode(Bytes::copy_from_slice(noise));
        }

        proptest! {
            #[test]
            fn items_round_trip_and_cut_or_longer_bodies_do_not_parse(
                item in shape(), noise in any::<Vec<u8>>(),
            ) {
                check(&Json, &item, &noise);
                #[cfg(feature = "postcard")]
                check(&Postcard, &item, &noise);
                #[cfg(feature = "messagepack")]
                check(&MessagePack, &item, &noise);
            }

        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(24))]

            #[cfg(feature = "messagepack")]
            #[test]
            fn every_kind_of_messagepack_value_is_measured_right(
                numbers in any::<Vec<(i64, u64, i32, u16, f32, f64)>>(),
                text in prop_oneof![any::<String>(), "x{250,70000}"],
                items in prop::collection::vec(any::<bool>(), 0..70_000),
            ) {
                // The check of the shape must agree with the serializer.
                let item = (numbers, text, items);
                let (_, back) = round_trip(&MessagePack, item.clone());
                prop_assert_eq!(back, item);
            }
        }

        #[derive(Serialize, Deserialize, Debug)]
        enum Tree {
            Leaf,
            Node(Box<Self>),
            Wood(Vec<Self>),
        }

        fn nested(levels: usize) -> Tree {
            (0..levels).fold(Tree::Leaf, |tree, n| match n % 2 {
                0 => Tree::Node(Box::new(tree)),
                _ => Tree::Wood(vec![tree]),
            })
        }

        #[cfg(feature = "messagepack")]
        #[test]
        fn endless_nesting_is_an_error_and_no_overflow() {
            // rmp-serde alone overflows the stack here: it does not count the depth of enums.
            let pack = Bytes::from(b"\x81\xa4Node".repeat(1 << 17));
            assert!(Decode::<Tree>::decode(&MessagePack, pack).is_err());
            let pack = Bytes::from(b"\x81\xa4Wood\x91".repeat(1 << 17));
            assert!(Decode::<Tree>::decode(&MessagePack, pack).is_err());
            let json = Bytes::from(r#"{"Node":"#.repeat(1 << 17));
            assert!(Decode::<Tree>::decode(&Json, json).is_err());
        }

        #[test]
        fn reasonable_nesting_passes() {
            round_trip(&Json, nested(80));
            #[cfg(feature = "messagepack")]
            round_trip(&MessagePack, nested(80));
            #[cfg(feature = "postcard")]
            round_trip(&Postcard, nested(80));
        }

        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Job {
            id: u32,
            name: String,
        }

        #[test]
        fn json_is_one_line_whatever_the_strings_hold() {
            let job = Job {
                id: 7,
                name: String::from("a\nb"),
            };
            let (body, _) = round_trip(&Json, job);
            assert_eq!(body, r#"{"id":7,"name":"a\nb"}"#.as_bytes());
        }

        #[cfg(feature = "messagepack")]
        #[test]
        fn messagepack_writes_named_fields_and_reads_positional_ones() {
            let job = || Job {
                id: 7,
                name: String::from("x"),
            };
            let (body, _) = round_trip(&MessagePack, job());
            assert_eq!(&body[..], b"\x82\xa2id\x07\xa4name\xa1x");
            let positional = Bytes::from_static(b"\x92\x07\xa1x");
            assert_eq!(
                Decode::<Job>::decode(&MessagePack, positional).unwrap(),
                job()
            );
        }
    }
}
