//! Recordings, whole, cut, changed or with anything behind them, cut into any pieces: what was recorded
//! comes back up to there, an error says so, and no memory is taken that the bytes do not account for.
#![no_main]

use std::time::{Duration, SystemTime};

use aqueduct::frame::FramedRead;
use aqueduct::record::{Error, Record, RecordDecoder};
use aqueduct_fuzz::{Meter, Pieces, drive, most};
use arbitrary::Arbitrary;
use futures_util::StreamExt;
use libfuzzer_sys::fuzz_target;

/// What every recording begins with.
const MAGIC: [u8; 8] = *b"\x89AQREC\n\x01";

#[global_allocator]
static METER: Meter = Meter;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    max: u32,
    steps: [u8; 8],
    records: Vec<(u64, u32, &'a [u8])>,
    damage: Damage<'a>,
}

#[derive(Arbitrary, Debug)]
enum Damage<'a> {
    None,
    Cut(u16),
    Changed(u16, u8),
    Behind(&'a [u8]),
    /// No recording, but for what it begins with.
    All(&'a [u8]),
}

/// A recording by the definition of the format alone; and where each record ends.
fn record(records: &[(u64, u32, &[u8])]) -> (Vec<u8>, Vec<usize>) {
    let mut file = MAGIC.to_vec();
    let mut ends = Vec::new();
    for (time, priority, body) in records {
        let mut record = (body.len() as u32 + 12).to_le_bytes().to_vec();
        record.extend(time.to_le_bytes());
        record.extend(priority.to_le_bytes());
        record.extend(*body);
        file.extend(crc32fast::hash(&record).to_le_bytes());
        file.extend(record);
        ends.push(file.len());
    }
    (file, ends)
}

fn same(record: &Record, (time, priority, body): &(u64, u32, &[u8])) -> bool {
    let message = &record.message;
    record.time == SystemTime::UNIX_EPOCH + Duration::from_nanos(*time)
        && message.priority() == (*priority != u32::MAX).then_some(*priority)
        && message.body() == body
}

fuzz_target!(|input: Input<'_>| {
    let max = input.max as usize;
    let (mut file, ends) = record(&input.records);
    // What has to come back, and whether that is all.
    let fits = |n: usize| {
        let small = input.records.iter().take_while(|it| it.2.len() <= max);
        small.count().min(n)
    };
    let before = |at: usize| ends.iter().filter(|end| **end <= at).count();
    let (wanted, exact) = match input.damage {
        Damage::None => (fits(ends.len()), true),
        Damage::Cut(at) => {
            file.truncate(usize::from(at).min(file.len()));
            (fits(before(file.len())), true)
        }
        Damage::Changed(at, by) => {
            let at = usize::from(at) % file.len();
            file[at] ^= by;
            let whole = if by == 0 { ends.len() } else { before(at) };
            (fits(whole), true)
        }
        Damage::Behind(bytes) => {
            file.extend_from_slice(bytes);
            (fits(ends.len()), bytes.is_empty())
        }
        Damage::All(bytes) => {
            file.truncate(MAGIC.len());
            file.extend_from_slice(bytes);
            (0, false)
        }
    };
    let decode = || {
        let decoder = RecordDecoder::new().max_message(max);
        let io = Pieces::new(&file, &input.steps);
        // Records that are kept keep the buffer they were read into.
        let mut records = FramedRead::with_codec(io, decoder).with_chunk(256);
        let all = async {
            let mut got = Vec::new();
            while let Some(record) = records.next().await {
                match record {
                    Ok(record) => got.push(record),
                    Err(error) => return (got, Some(error)),
                }
            }
            (got, None)
        };
        drive(all, 4 * file.len() + 100)
    };
    let ((got, end), used) = most(decode);
    assert!(
        used <= 512 * 1024 + 8 * file.len() + 200 * got.len(),
        "{used} bytes in use"
    );
    assert!(got.len() >= wanted && (!exact || got.len() == wanted));
    assert!(
        got.iter()
            .zip(&input.records)
            .take(wanted)
            .all(|(a, b)| same(a, b))
    );
    let whole = match &end {
        None => got.len() as u64,
        Some(Error::NotARecording | Error::Version { .. }) => 0,
        Some(
            Error::CutShort { whole, .. }
            | Error::Damaged { whole, .. }
            | Error::TooLarge { whole, .. },
        ) => *whole,
        Some(other) => panic!("{other}"),
    };
    assert_eq!(whole, got.len() as u64);
    let at_end = file.len() == MAGIC.len() || ends.contains(&file.len());
    if exact && end.is_none() {
        assert!(at_end && got.len() == before(file.len()));
    }
});
