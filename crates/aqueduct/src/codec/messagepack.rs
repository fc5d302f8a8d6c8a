use bytes::{BufMut, Bytes, BytesMut};
use rmp_serde::Serializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{BoxError, Decode, Encode, Format, MAX_DEPTH, TrailingBytes};

/// MessagePack by rmp-serde. Its name is `messagepack`.
///
/// A struct is written as a map with its field names, as libraries of other languages do and
/// expect, so fields can be added without breaking older readers. Positional structs (arrays),
/// which rmp-serde writes by default, are read as well. A body that nests deeper than 128 levels is
/// a decode error.
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::MessagePack};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<Vec<f32>, Vec<f32>>::pair(MessagePack);
/// here.send(vec![0.5, 1.5]).await?;
/// assert_eq!(there.recv().await.transpose()?, Some(vec![0.5, 1.5]));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePack;

impl Format for MessagePack {
    fn name(&self) -> &'static str {
        "messagepack"
    }
}

impl<T: Serialize> Encode<T> for MessagePack {
    fn encode(&self, item: &T, dst: &mut BytesMut) -> Result<(), BoxError> {
        let mut serializer = Serializer::new(dst.writer()).with_struct_map();
        Ok(item.serialize(&mut serializer)?)
    }
}

impl<T: DeserializeOwned> Decode<T> for MessagePack {
    fn decode(&self, body: Bytes) -> Result<T, BoxError> {
        self.decode_borrowed(&body)
    }

    #[inline]
    fn decode_borrowed(&self, body: &[u8]) -> Result<T, BoxError> {
        check_shape(body)?;
        Ok(rmp_serde::from_slice(body)?)
    }

    fn borrows(&self) -> bool {
        true
    }
}

/// Why a body is refused before any of it is deserialised.
#[derive(Debug, thiserror::Error)]
enum BadShape {
    #[error("values nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the body ends inside a value")]
    Truncated,
    #[error("0xc1 is not the start of a value")]
    Reserved,
}

/// Checks that `body` is one whole value that nests no deeper than 128 levels.
///
/// rmp-serde counts the depth of sequences and maps but not of enums, so without this a recursive
/// type such as a tree could exhaust the stack. It also does not report bytes that are left over.
fn check_shape(body: &[u8]) -> Result<(), BoxError> {
    // How many values the containers around the current one still lack, outermost first.
    let mut open = [0_u64; MAX_DEPTH];
    let mut depth = 0;
    let mut rest = body;
    loop {
        let values = skip_head(&mut rest)?;
        if values > 0 {
            *open.get_mut(depth).ok_or(BadShape::TooDeep)? = values;
            depth += 1;
            continue;
        }
        // One value is complete, and with it every container whose last value it was.
        loop {
            let Some(outer) = depth.checked_sub(1) else {
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(TrailingBytes.into())
                };
            };
            open[outer] -= 1;
            if open[outer] > 0 {
                break;
            }
            depth = outer;
        }
    }
}

/// Skips a value, or only the head of a container; returns how many values the container holds.
///
/// The table is from <https://github.com/msgpack/msgpack/blob/master/spec.md>.
fn skip_head(rest: &mut &[u8]) -> Result<u64, BadShape> {
    let marker = number(rest, 1)?;
    let (skip, values) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0.. => (0, 0),
        0x80..=0x8f => (0, 2 * (marker & 0xf)),
        0x90..=0x9f => (0, marker & 0xf),
        0xa0..=0xbf => (marker & 0x1f, 0),
        0xc1 => return Err(BadShape::Reserved),
        // bin, ext (with its type byte), str: 8, 16 and 32 bits of length.
        0xc4..=0xc6 => (number(rest, 1 << (marker - 0xc4))?, 0),
        0xc7..=0xc9 => (1 + number(rest, 1 << (marker - 0xc7))?, 0),
        0xd9..=0xdb => (number(rest, 1 << (marker - 0xd9))?, 0),
        0xca => (4, 0),
        0xcb => (8, 0),
        0xcc..=0xcf => (1 << (marker - 0xcc), 0),
        0xd0..=0xd3 => (1 << (marker - 0xd0), 0),
        0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), 0),
        // array and map: 16 and 32 bits of length.
        0xdc | 0xdd => (0, number(rest, 2 << (marker - 0xdc))?),
        0xde | 0xdf => (0, 2 * number(rest, 2 << (marker - 0xde))?),
    };
    let skip = usize::try_from(skip).map_err(|_| BadShape::Truncated)?;
    *rest = rest.get(skip..).ok_or(BadShape::Truncated)?;
    Ok(values)
}

/// Takes a big-endian number of `size` bytes.
fn number(rest: &mut &[u8], size: usize) -> Result<u64, BadShape> {
    let (head, tail) = rest.split_at_checked(size).ok_or(BadShape::Truncated)?;
    *rest = tail;
    Ok(head
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
