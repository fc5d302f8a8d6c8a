use std::fs::File;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Error, Record, RecordDecoder};
use crate::frame::{FramedRead, UserCodec};
use crate::io::blocking::BlockingReader;

/// The messages of a recording, as a stream.
///
/// A separate thread reads the file, 64 KiB at a time. It needs a Tokio runtime.
///
/// # Errors
///
/// See [`Error`]. The first error is the last item.
///
/// # Cancel safety
///
/// Cancel safe. Dropping a future of `next()` loses nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::record::{Recorder, Recording};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs.rec");
/// # Recorder::open(&path)?.record(&"sort the attic".into())?;
/// let mut recording = Recording::open(&path)?;
/// while let Some(record) = recording.next().await.transpose()? {
///     println!("{:?} {:?}", record.time, record.message.body());
/// }
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Recording {
    records: FramedRead<BlockingReader, UserCodec<RecordDecoder>>,
}

impl Recording {
    /// Opens a recording, with messages of at most 1 MiB.
    ///
    /// # Errors
    ///
    /// Any error of open(2). Errors of the recording are items of the stream.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, RecordDecoder::new())
    }

    /// Opens a recording with a custom decoder, for another limit.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, decoder: RecordDecoder) -> Result<Self, Error> {
        let reader = BlockingReader::new(File::open(path)?.into())?;
        Ok(Self {
            records: FramedRead::with_codec(reader, decoder),
        })
    }
}

impl Stream for Recording {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.records).poll_next(cx)
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}
