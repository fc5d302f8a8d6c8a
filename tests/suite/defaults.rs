//! `Default` is `new`, and the codecs have the names that the handshake compares.

use std::fmt::Debug;

use aqueduct::codec::{Decode, Encode, Format, Json, MessagePack, Postcard, Raw, Text};
use aqueduct::{fifo, mq, tcp, unix};
use bytes::{Bytes, BytesMut};

#[test]
fn the_default_options_are_the_new_ones() {
    fn same<T: Debug + Default>(new: T) {
        assert_eq!(format!("{:?}", T::default()), format!("{new:?}"));
    }
    same(tcp::BindOptions::new());
    same(tcp::ConnectOptions::new());
    same(unix::BindOptions::new());
    same(unix::ConnectOptions::new());
    same(fifo::OpenOptions::new());
    same(mq::OpenOptions::new());
}

#[test]
fn each_codec_has_its_name_and_gives_back_what_it_took() {
    fn name(codec: impl Format) -> &'static str {
        codec.name()
    }
    assert_eq!(
        [
            name(Json),
            name(Postcard),
            name(MessagePack),
            name(Text),
            name(Raw)
        ],
        ["json", "postcard", "messagepack", "text", "raw"]
    );
    // Behind what is there already, as a codec of another framing asks for.
    let mut dst = BytesMut::from("before ");
    Raw.encode(&"after", &mut dst).unwrap();
    assert_eq!(dst, "before after");
    let body: Bytes = Raw.decode(dst.freeze()).unwrap();
    assert_eq!(body, "before after");
}
