use bytes::{Bytes, BytesMut};

use crate::codec::{BoxError, Decode, Encode, Format};

/// Bytes as they are. Its name is `raw`.
///
/// Sends any bytes that convert into [`Bytes`] (`Bytes`, `Vec<u8>`, `String`, static slices),
/// without a copy if the conversion makes none. Receives [`Bytes`].
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::{Channel, codec::Raw};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<Bytes, Bytes>::pair(Raw);
/// here.send(Bytes::from_static(b"\x01\x02")).await?;
/// assert_eq!(there.recv().await.transpose()?.as_deref(), Some(&b"\x01\x02"[..]));
/// # Ok(()) }
/// ```
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
