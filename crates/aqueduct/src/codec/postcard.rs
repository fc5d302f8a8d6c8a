use bytes::{Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{BoxError, Decode, Encode, Format, TrailingBytes};

/// [Postcard](https://postcard.jamesmunns.com/wire-format) 1. Its name is `postcard`.
///
/// The bytes carry no names and no types: both sides must use the same type, with its fields in the
/// same order. A changed type is often, but not always, noticed as a decode error.
///
/// Postcard does not bound nesting. With a recursive type (a tree, a list of boxes), a hostile peer
/// can exhaust the stack with one frame: use another codec or a small frame limit for such types.
/// Other types nest only as deep as they are written. A list whose items take no bytes, such as
/// `Vec<()>`, does not bound its length either: avoid it.
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::Postcard};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<(u8, [f32; 2]), (u8, [f32; 2])>::pair(Postcard);
/// here.send((7, [0.5, 1.5])).await?;
/// assert_eq!(there.recv().await.transpose()?, Some((7, [0.5, 1.5])));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

impl Format for Postcard {
    fn name(&self) -> &'static str {
        "postcard"
    }
}

impl<T: Serialize> Encode<T> for Postcard {
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError> {
        Ok(postcard::serialize_with_flavor(item, Append(dst))?)
    }
}

impl<T: DeserializeOwned> Decode<T> for Postcard {
    fn decode(&self, body: Bytes) -> Result<T, BoxError> {
        self.decode_borrowed(&body)
    }

    #[inline]
    fn decode_borrowed(&self, body: &[u8]) -> Result<T, BoxError> {
        match postcard::take_from_bytes(body)? {
            (item, []) => Ok(item),
            _ => Err(TrailingBytes.into()),
        }
    }

    fn borrows(&self) -> bool {
        true
    }
}

/// The destination of the bytes. Postcard's own writers take a byte at a time or a second copy.
struct Append<'a>(&'a mut BytesMut);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend_from_slice(&[byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
