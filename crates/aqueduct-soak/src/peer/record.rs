use std::path::Path;

use aqueduct::record::Recorder;

use super::End;
use crate::ledger::{Progress, Sent};
use crate::message::{self, Sizes};

/// Appends `count` messages to a recording.
pub(super) fn run(
    file: &Path,
    id: u32,
    sizes: Sizes,
    count: u64,
    notes: &Path,
) -> anyhow::Result<End> {
    let mut recorder = Recorder::open(file)?;
    let sent = Sent::create(notes)?;
    let mut progress = Progress::default();
    while progress.done < count {
        progress.begun += 1;
        sent.note(progress)?;
        let message = message::make(id, progress.done, sizes.of(id, progress.done));
        recorder.record(&message.into())?;
        progress.done = progress.begun;
        sent.note(progress)?;
    }
    Ok(End::Whole)
}
