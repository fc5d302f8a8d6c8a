use bytes::{Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{BoxError, Decode, Encode, Format, TrailingBytes};

/// [Postcard](https://postcard.jamesmunns.com/wire-format) 1. Its name is `postcard`.
///
/// The bytes carry no names and no types: both sides must use the same type, to the order of its
/// fields. A changed type is often, but not always, noticed as a decode error.
///
/// Postcard does not bound how deep values nest. A type that contains itself (a tree, a list of
/// boxes) lets a hostile peer exhaust the stack within one frame: take another codec for such types,
/// or a small frame limit, where the peer is not trusted. Other types nest no deeper than they are
/// written. Nor does a list whose items take no bytes, such as `Vec<()>`, bound how many a few bytes
/// can claim: use none such.
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

/// Where the bytes go. Postcard's own ways in take a byte at a time or a second copy.
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
