use std::fmt::{self, Debug, Formatter};

use anyhow::ensure;

/// Size of a record's header.
const HEADER: usize = 20;
const MAGIC: usize = 8;

/// A recording that was cut off, or has a flipped bit, or both.
pub(super) struct Damage {
    pub(super) bytes: Vec<u8>,
    /// Number of whole records before the damage.
    pub(super) whole: usize,
    /// End of the last record that is not cut off.
    end: usize,
    /// Offset of the flipped bit.
    pub(super) flipped: Option<usize>,
    of: usize,
}

impl Damage {
    /// Makes a damaged copy of a sound recording, at random.
    pub(super) fn to(sound: &[u8]) -> Self {
        let ends = ends(sound);
        let mut bytes = sound.to_vec();
        let cut = fastrand::bool();
        if cut {
            // Half of the time within the last records.
            let last = ends.len().saturating_sub(fastrand::usize(1..5));
            let from = if fastrand::bool() { ends[last] } else { 0 };
            bytes.truncate(fastrand::usize(from..=sound.len()));
        }
        let flip = !bytes.is_empty() && (!cut || fastrand::bool());
        let flipped = flip.then(|| {
            // Half of the time in a header.
            let record = ends[fastrand::usize(..ends.len())] + fastrand::usize(..HEADER);
            let at = if fastrand::bool() && record < bytes.len() {
                record
            } else {
                fastrand::usize(..bytes.len())
            };
            bytes[at] ^= 1 << fastrand::u8(..8);
            at
        });
        let end = ends.iter().rfind(|it| **it <= bytes.len());
        let sound_until = flipped.unwrap_or(bytes.len());
        let whole = ends.iter().filter(|it| **it <= sound_until).count();
        Self {
            whole: whole.saturating_sub(1),
            end: end.copied().unwrap_or_default(),
            flipped,
            of: sound.len(),
            bytes,
        }
    }

    /// Whether a reader must get an error.
    pub(super) fn is_seen(&self) -> bool {
        self.flipped.is_some() || self.end != self.bytes.len() || self.end == 0
    }

    /// Judges the file after a recorder has `appended` the message or refused to.
    pub(super) fn judge(&self, after: &[u8], appended: bool, message: &[u8]) -> anyhow::Result<()> {
        let in_a_whole_record = self.flipped.is_some_and(|it| it < self.end);
        if !appended {
            ensure!(after == self.bytes, "it was refused, and changed");
            ensure!(
                self.flipped.is_some(),
                "it is only cut off, and was refused"
            );
            return Ok(());
        }
        ensure!(!in_a_whole_record, "it is damaged, and was appended to");
        let end = self.end.max(MAGIC);
        let same = after.get(MAGIC..end) == Some(&self.bytes[MAGIC.min(self.end)..self.end]);
        ensure!(same, "whole records were changed");
        let added = after.len() - end;
        let wanted = HEADER + message.len();
        ensure!(added == wanted, "{added} bytes were appended, not {wanted}");
        ensure!(
            after.ends_with(message),
            "the last bytes are not the message"
        );
        Ok(())
    }
}

impl Debug for Damage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (len, of) = (self.bytes.len(), self.of);
        write!(f, "{len} bytes of {of}, {} of them in records", self.end)?;
        match self.flipped {
            Some(at) => write!(f, ", a bit flipped at {at}"),
            None => Ok(()),
        }
    }
}

/// The ends of the magic and of each record of a sound recording.
fn ends(sound: &[u8]) -> Vec<usize> {
    let mut ends = vec![MAGIC];
    let mut at = MAGIC;
    while let Some(length) = sound.get(at + 4..at + 8) {
        at += MAGIC
            + length
                .iter()
                .rev()
                .fold(0, |it, byte| it << 8 | usize::from(*byte));
        ends.push(at);
    }
    ends
}
