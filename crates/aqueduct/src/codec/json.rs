use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{BoxError, Decode, Encode, Format};

/// JSON by serde_json, compact. Its name is `json`.
///
/// The text contains no line break, so any framing works, including lines. A body that nests deeper
/// than 128 levels is a decode error.
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::Json};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<(u32, String), (u32, String)>::pair(Json);
/// here.send((1, "sort the attic".into())).await?;
/// assert_eq!(there.recv().await.transpose()?, Some((1, "sort the attic".into())));
/// # Ok(()) }
/// ```
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
