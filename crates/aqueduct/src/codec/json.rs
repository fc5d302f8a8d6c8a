use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{BoxError, Decode, Encode, Format};

/// JSON by serde_json, compact. Its name is `json`.
///
/// The text never holds a line break, so it may travel in frames of any kind, lines included. A body that nests deeper than 128 levels is a decode error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }
}

impl<T: Serialize> Encode<T> for Json {
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(dst.writer(), item)?)
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, body: Bytes) -> Result<T, BoxError> {
        self.decode_borrowed(&body)
    }

    #[inline]
    fn decode_borrowed(&self, body: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(body)?)
    }

    fn borrows(&self) -> bool {
        true
    }
}
