//! Bodies of any bytes: an item or an error, within the memory that the body's size allows, however
//! deep it nests; and what is an item survives its own encoding.
#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;

use aqueduct::codec::{Codec, Json, MessagePack, Postcard, Text};
use aqueduct_fuzz::{Meter, most};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[global_allocator]
static METER: Meter = Meter;

/// A type with one of everything, which does not contain itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Flat {
    Unit,
    New(u64),
    Pair(i32, Option<char>),
    Fields {
        flag: bool,
        text: String,
        bytes: Vec<u8>,
        numbers: BTreeMap<String, i128>,
    },
}

/// A type that contains itself, in each way that serde has.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Tree {
    Leaf(i64),
    Boxed(Box<Self>),
    List(Vec<Self>),
    Named { next: Option<Box<Self>> },
    Map(BTreeMap<String, Self>),
}

fuzz_target!(|input: (u8, &[u8])| {
    let (which, body) = input;
    let body = Bytes::copy_from_slice(body);
    match which % 7 {
        0 => try_out::<Flat, _>(&Json, body),
        1 => try_out::<Flat, _>(&MessagePack, body),
        2 => try_out::<Flat, _>(&Postcard, body),
        3 => try_out::<Tree, _>(&Json, body),
        4 => try_out::<Tree, _>(&MessagePack, body),
        5 => try_out::<Vec<(u32, Flat)>, _>(&Postcard, body),
        _ => try_out::<String, _>(&Text, body),
    }
});

fn try_out<T: Clone + Debug + PartialEq, C: Codec<T>>(codec: &C, body: Bytes) {
    let len = body.len();
    let (decoded, used) = most(|| codec.decode(body));
    // An item in memory is larger than its few bytes on the wire: here 200 times at most. serde
    // reserves up to 1 MiB for a list that claims to be long.
    let bound = 256 * len + (2 << 20);
    assert!(
        used <= bound,
        "{used} bytes in use for {len}, {bound} allowed"
    );
    if let Ok(item) = decoded {
        let encoded = codec.encode_owned(item.clone(), &mut BytesMut::new());
        let encoded = encoded.expect("what was decoded can be encoded");
        let back = codec.decode(encoded).expect("and decoded");
        assert_eq!(back, item);
    }
}
