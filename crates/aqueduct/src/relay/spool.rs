//! [`Spool`]: a file that keeps messages until they are delivered.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::connect::Message;
use crate::io::backoff::random_name;
use crate::record::{Error, RecordDecoder, Recorder};

/// The largest message: that of a queue.
const LARGEST: usize = 16 << 20;
/// How many messages it keeps before they have to be delivered, and how many bytes.
const MOST: usize = 1024;
const MOST_BYTES: usize = 64 << 20;
/// The first record of a spool begins with this, and ends with its name. Other recordings are left alone.
const HEAD: &[u8] = b"aqueduct spool ";

/// A file that keeps the messages of a [`Relay`](super::Relay) until they are delivered.
///
/// A message is in the file before it is sent, and the file is emptied whenever everything in it is
/// delivered. A relay that was killed leaves its messages there, and the next one with the same file
/// sends them first. It holds at most 1,024 messages and 64 MiB, or one larger message.
///
/// The file is a [recording](crate::record), whose first record has a random name. JetStream knows a
/// message that is sent again by that name and its number, and stores it once. Other
/// mechanisms get messages again that were delivered after the file was last emptied.
///
/// A message that has a [`Receipt`](crate::connect::Receipt) is not kept: its transport keeps it.
///
/// The file outlives the process, but is not synced: a power failure may lose its messages.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Connection;
/// use aqueduct::relay::{Relay, Spool};
/// use aqueduct::service::CancellationToken;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let spool = Spool::open(dir.path().join("jobs.spool"))?;
/// let (here, incoming) = Connection::pair();
/// let (outgoing, there) = Connection::pair();
/// let relay = Relay::new(incoming.into_receiver(), outgoing.into_sender()).spool(spool);
/// let relay = tokio::spawn(relay.run(CancellationToken::new()));
///
/// let (mut sender, mut receiver) = (here.into_sender(), there.into_receiver());
/// sender.send("job".into()).await?;
/// assert_eq!(receiver.next().await.transpose()?, Some("job".into()));
/// sender.close().await?;
/// relay.await??;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Spool {
    recorder: Recorder,
    name: String,
    /// How many messages are in the file, and their bytes.
    count: usize,
    bytes: usize,
    /// What an earlier relay left, to be sent first.
    left: VecDeque<Message>,
}

impl Spool {
    /// Opens a spool, and creates a missing one for its owner only.
    ///
    /// It reads what is left in it, and blocks for as long as the file system does. Part of a message at
    /// its end, as a killed relay leaves it, is ignored.
    ///
    /// # Errors
    ///
    /// As for [`Recorder::open`], and [`Error::NotARecording`] for a recording that is no spool.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let recorder = Recorder::open_with(path, LARGEST)?;
        let mut spool = Self {
            recorder,
            name: String::new(),
            count: 0,
            bytes: 0,
            left: VecDeque::new(),
        };
        let mut file = BytesMut::from(&std::fs::read(path)?[..]);
        let mut decoder = RecordDecoder::new().max_message(LARGEST);
        while let Some(record) = decoder.decode(&mut file)? {
            let mut message = record.message;
            if !spool.name.is_empty() {
                spool.count(&mut message);
                spool.left.push_back(message);
                continue;
            }
            let name = message.body().strip_prefix(HEAD);
            let name = name.and_then(|it| std::str::from_utf8(it).ok());
            spool.name = name.ok_or(Error::NotARecording)?.to_owned();
        }
        Ok(spool)
    }

    /// Takes the next message that an earlier relay left.
    pub(super) fn next_left(&mut self) -> Option<Message> {
        self.left.pop_front()
    }

    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether it has to be emptied before it takes another message.
    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST || self.bytes >= MOST_BYTES
    }

    /// Keeps a message, which gets an id.
    pub(super) fn keep(&mut self, message: &mut Message) -> io::Result<()> {
        if message.has_receipt() {
            return Ok(());
        }
        if self.count == 0 {
            self.name = random_name();
            let head = [HEAD, self.name.as_bytes()].concat();
            self.recorder.record(&Message::new(head))?;
        }
        self.recorder.record(message)?;
        self.count(message);
        Ok(())
    }

    fn count(&mut self, message: &mut Message) {
        self.count += 1;
        self.bytes += message.body().len();
        message.set_id(format!("{}:{}", self.name, self.count).into());
    }

    /// Everything is delivered.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.count > 0 && self.left.is_empty() {
            self.recorder.clear()?;
            (self.count, self.bytes) = (0, 0);
        }
        Ok(())
    }
}
