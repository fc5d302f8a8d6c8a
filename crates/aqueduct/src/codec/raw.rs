use bytes::{Bytes, BytesMut};

use crate::codec::{BoxError, Decode, Encode, Format};

/// Bytes as they are. Its name is `raw`.
///
/// Sends anything that is bytes and turns into [`Bytes`] (`Bytes`, `Vec<u8>`, `String`, static
/// slices), without a copy where that conversion makes none; receives [`Bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw;

impl Format for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }
}

impl<T: AsRef<[u8]> + Into<Bytes>> Encode<T> for Raw {
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError> {
        dst.extend_from_slice(item.as_ref());
        Ok(())
    }

    fn encode_owned(&self, item: T, _scratch: &mut BytesMut) -> Result<Bytes, BoxError> {
        Ok(item.into())
    }

    fn hands_over(&self) -> bool {
        true
    }
}

impl Decode<Bytes> for Raw {
    fn decode(&self, body: Bytes) -> Result<Bytes, BoxError> {
        Ok(body)
    }
}
