mod damage;

use std::fs::{self, File};
use std::path::Path;

use aqueduct::record::{self, Error, Recorder};
use futures_util::StreamExt;

use self::damage::Damage;
use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::ledger::{Progress, Record};
use crate::message::{self, Sizes};
use crate::peer::{End, Role};
use crate::process::Process;

const SIZES: Sizes = Sizes {
    usual: 300,
    largest: 50_000,
};

/// How many damaged copies are made of each recording.
const DAMAGES: usize = 16;

/// Recordings whose recorder is killed, that are cut off, and whose bits are flipped.
///
/// The contract: all recorded messages are in the file, in order. A recorder that opens the file again
/// cuts off a last record that is incomplete, and nothing else; it refuses any other damage and leaves
/// every byte as it is. A reader gets the records before the damage, then an error.
#[derive(Debug)]
pub(crate) struct Recording {
    place: Place,
}

impl Recording {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Lane for Recording {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        // A process using the library records until it is killed; the command appends to that.
        let file = notes.join("recording");
        let role = Role::Record {
            file: file.clone(),
            sizes: SIZES,
            count: 20_000,
        };
        let mut recorder = Process::start(notes, self.place.id(), role, None)?;
        recorder.moves(fastrand::u64(1..800)).await?;
        recorder.kill(figures).await?;
        recorder.finish(figures, &[End::Whole]).await?;
        let (id, count) = (self.place.id(), fastrand::u64(1..50));
        if !self.relay(notes, id, count, &file, figures).await? {
            figures.wrong("the recording of a killed process was refused".into());
        }
        let (recorded, end) = read(&file).await?;
        if let Some(error) = end {
            figures.wrong(format!("a recording that was appended to: {error}"));
        }
        let more = Progress {
            begun: count,
            done: count,
            ..Progress::default()
        };
        let sent = [(recorder.id(), recorder.sent()), (id, more)];
        let missing = figures.compare(&sent, std::slice::from_ref(&recorded));
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(lost, 0, "all of them were recorded");

        let sound = fs::read(&file)?;
        for n in 0..DAMAGES {
            let damage = Damage::to(&sound);
            if damage.flipped.is_some() {
                figures.did(Fault::Flip);
            }
            fs::write(&file, &damage.bytes)?;
            let (came, error) = read(&file).await?;
            if came != recorded[..damage.whole] || error.is_some() != damage.is_seen() {
                figures.wrong(format!(
                    "{damage:?}: {} messages were read, and {error:?}",
                    came.len()
                ));
            }
            let id = self.place.id();
            // Starting the command takes as long as all the rest.
            let appended = match n % 8 {
                0 => self.relay(notes, id, 1, &file, figures).await?,
                _ => append(&file, id, figures),
            };
            let judged = damage.judge(&fs::read(&file)?, appended, &one(id, 0));
            if let Err(wrong) = judged {
                figures.wrong(format!("{damage:?}: {wrong:#}"));
            }
        }
        Ok(())
    }
}

impl Recording {
    /// Records messages with the command. Returns whether it accepted the file.
    async fn relay(
        &self,
        notes: &Path,
        id: u32,
        count: u64,
        file: &Path,
        figures: &mut Figures,
    ) -> anyhow::Result<bool> {
        let lines = (0..count).flat_map(|it| [one(id, it), "\n".into()].concat());
        let input = notes.join("input");
        fs::write(&input, lines.collect::<Vec<_>>())?;
        let path = file.to_string_lossy();
        let args = ["relay", "stdio:", "stdio:", "--tee", &path];
        let program = &self.place.program;
        let name = id.to_string();
        let mut relay = program.start_with_input(notes, &name, &args, File::open(input)?)?;
        Ok(match relay.code(figures).await? {
            Some(1) if is_refusal(&relay.told()) => false,
            code => {
                if code != Some(0) || relay.printed().len() as u64 != count {
                    figures.wrong(format!("the relay ended with {code:?}: {}", relay.told()));
                }
                true
            }
        })
    }
}

fn one(id: u32, number: u64) -> bytes::Bytes {
    message::make(id, number, SIZES.of(id, number))
}

/// Records a message with the library. Returns whether it accepted the file.
fn append(file: &Path, id: u32, figures: &mut Figures) -> bool {
    let recorder = match Recorder::open(file) {
        Err(Error::Damaged { .. } | Error::NotARecording | Error::Version { .. }) => return false,
        recorder => recorder.map_err(Into::into),
    };
    let recorded = recorder.and_then(|mut it| it.record(&one(id, 0).into()));
    if let Err(error) = recorded {
        figures.wrong(format!("cannot record: {error}"));
    }
    true
}

/// Whether the command says that it cannot append to this file.
fn is_refusal(told: &str) -> bool {
    let reasons = ["is damaged", "is not an Aqueduct recording", "has version"];
    reasons.iter().any(|it| told.contains(it))
}

/// Reads a recording up to its end or first error.
async fn read(file: &Path) -> anyhow::Result<(Vec<Record>, Option<Error>)> {
    let mut records = record::Recording::open(file)?;
    let mut came = Vec::new();
    while let Some(record) = records.next().await {
        match record {
            Ok(record) => came.push(message::read(record.message.body())),
            Err(error) => return Ok((came, Some(error))),
        }
    }
    Ok((came, None))
}
