use bytes::{Bytes, BytesMut};

use crate::codec::{BoxError, Decode, Encode, Format};

/// Plain UTF-8 text. Its name is `text`.
///
/// Sends any string, receives [`String`]. A body that is not UTF-8 is a decode error.
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::Text};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<String, String>::pair(Text);
/// here.send("hello".into()).await?;
/// assert_eq!(there.recv().await.transpose()?.as_deref(), Some("hello"));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }
}

impl<T: AsRef<str>> Encode<T> for Text {
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError> {
        dst.extend_from_slice(item.as_ref().as_bytes());
        Ok(())
    }
}

impl Decode<String> for Text {
    fn decode(&self, body: Bytes) -> Result<String, BoxError> {
        Ok(String::from_utf8(body.into())?)
    }

    fn decode_borrowed(&self, body: &[u8]) -> Result<String, BoxError> {
        Ok(String::from_utf8(body.to_owned())?)
    }

    fn borrows(&self) -> bool {
        true
    }
}
