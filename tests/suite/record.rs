//! Recordings: replayed byte for byte, cut anywhere, damaged, and recorded to by the wrong ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aqueduct::connect::Message;
use aqueduct::record::{Error, Record, RecordDecoder, Recorder, Recording};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt};
use tempfile::TempDir;
use tokio_util::codec::Decoder;

use crate::support::{alone, deadline};

/// What every recording begins with.
const MAGIC: [u8; 8] = *b"\x89AQREC\n\x01";

/// How large a record is without its body.
const OVERHEAD: usize = 20;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Any bytes, of many sizes, some with a priority.
fn message(i: usize) -> Message {
    let body: Vec<u8> = (0..i % 37).map(|at| (i * 7 + at) as u8).collect();
    match i % 3 {
        0 => Message::new(body),
        _ => Message::new(body).with_priority(i as u32 % 32_768),
    }
}

fn at(i: usize) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001 + i as u64)
}

fn record(path: &Path, messages: usize) {
    let mut recorder = Recorder::open(path).expect("it can be recorded to");
    for i in 0..messages {
        let recorded = recorder.record_at(at(i), &message(i));
        recorded.expect("it is recorded");
    }
}

/// All the records of a file in memory, and how it ends.
fn decode(file: &[u8]) -> (Vec<Record>, Result<(), Error>) {
    let mut decoder = RecordDecoder::new();
    let mut src = BytesMut::from(file);
    let mut records = Vec::new();
    loop {
        match decoder.decode_eof(&mut src) {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, Ok(())),
            Err(error) => return (records, Err(error)),
        }
    }
}

fn check(records: &[Record]) {
    for (i, record) in records.iter().enumerate() {
        assert_eq!((record.time, &record.message), (at(i), &message(i)));
    }
}

/// Time and priority are kept too.
#[tokio::test]
async fn a_hundred_thousand_messages_are_read_back_byte_for_byte() {
    const MESSAGES: usize = 100_000;
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, MESSAGES);
    let records = Recording::open(&path).expect("it is there").try_collect();
    let records: Vec<_> = deadline(records).await.expect("it is whole");
    assert_eq!(records.len(), MESSAGES);
    check(&records);
}

#[test]
fn the_format_is_the_documented_one() {
    let dir = dir();
    let path = dir.path().join("x");
    let mut recorder = Recorder::open(&path).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(0x0102_0304_0506_0708);
    recorder.record_at(time, &"hi".into()).unwrap();
    let urgent = Message::new("").with_priority(9);
    recorder.record_at(time, &urgent).unwrap();
    let time = [8, 7, 6, 5, 4, 3, 2, 1];
    let first = [&[14, 0, 0, 0][..], &time, &[0xff; 4], b"hi"].concat();
    let second = [&[12, 0, 0, 0][..], &time, &[9, 0, 0, 0]].concat();
    let mut expected = b"\x89AQREC\n\x01".to_vec();
    for record in [first, second] {
        // A bit at a time, as the definition has it.
        let crc = !record.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
            })
        });
        expected.extend(crc.to_le_bytes());
        expected.extend(record);
    }
    assert_eq!(fs::read(&path).unwrap(), expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
}

/// What is missing is reported.
#[test]
fn a_recording_cut_at_any_byte_gives_all_whole_messages() {
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, 40);
    let file = fs::read(&path).unwrap();
    let mut ends = vec![MAGIC.len()];
    for i in 0..40 {
        ends.push(ends[i] + OVERHEAD + message(i).body().len());
    }
    for cut in 0..=file.len() {
        let (records, end) = decode(&file[..cut]);
        check(&records);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(records.len(), whole.saturating_sub(1), "cut at {cut}");
        if ends.contains(&cut) {
            end.expect("it ends between two messages");
            continue;
        }
        let begin = ends[..whole].last().copied().unwrap_or_default();
        match end {
            Err(Error::CutShort {
                whole: n,
                at,
                got,
                wanted,
            }) => {
                assert_eq!(n as usize, records.len());
                assert_eq!((at as usize, got as usize), (begin, cut - begin));
                let known = cut < MAGIC.len() || cut - begin >= 8;
                let end = ends.iter().find(|end| **end > cut).unwrap();
                assert_eq!(wanted, known.then_some((end - begin) as u64), "{cut}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_large_cut_recording_is_read_and_can_be_appended_to() {
    const MESSAGES: usize = 20_000;
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, MESSAGES);
    let length = fs::metadata(&path).unwrap().len();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut last = length;
    for _ in 0..20 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let cut = random % last.max(1);
        last = cut;
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(cut).unwrap();
        drop(file);
        let mut recording = Recording::open(&path).unwrap();
        let mut records = Vec::new();
        let end = loop {
            match deadline(recording.next()).await {
                None => break None,
                Some(Ok(record)) => records.push(record),
                Some(Err(error)) => break Some(error),
            }
        };
        check(&records);
        let length: usize = records
            .iter()
            .map(|it| it.message.body().len() + OVERHEAD)
            .sum();
        match end {
            None => assert_eq!(cut as usize, MAGIC.len() + length),
            Some(Error::CutShort { whole, got, .. }) => {
                assert_eq!(whole as usize, records.len());
                if whole > 0 {
                    assert_eq!(cut as usize, MAGIC.len() + length + got as usize);
                }
            }
            Some(other) => panic!("{other}"),
        }
        // The next recorder goes on behind the last whole one.
        let mut recorder = Recorder::open(&path).unwrap();
        let next = records.len();
        recorder.record_at(at(next), &message(next)).unwrap();
        drop(recorder);
        let (records, end) = decode(&fs::read(&path).unwrap());
        end.expect("it is whole again");
        assert_eq!(records.len(), next + 1);
        check(&records);
    }
}

#[test]
fn a_changed_byte_is_noticed_and_ends_the_reading() {
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, 20);
    let file = fs::read(&path).unwrap();
    for at in 0..file.len() {
        for change in [0x01, 0x80] {
            let mut file = file.clone();
            file[at] ^= change;
            let (records, end) = decode(&file);
            check(&records);
            assert!(records.len() < 20 && end.is_err(), "{at} by {change}");
            // Such a file is never appended to, nor cut, unless it is cut short.
            fs::write(&path, &file).unwrap();
            let opened = Recorder::open(&path).map(drop);
            if matches!(end, Err(Error::Damaged { .. })) {
                assert!(matches!(opened, Err(Error::Damaged { .. })), "{at}");
            }
            if opened.is_err() {
                assert_eq!(fs::read(&path).unwrap(), file);
            }
        }
    }
}

#[test]
fn what_is_no_recording_is_refused_and_left_as_it_is() {
    let dir = dir();
    let path = dir.path().join("x");
    for text in [&b"notes"[..], b"\x89PNG\r\n\x1a\n and more", &[0; 100]] {
        fs::write(&path, text).unwrap();
        let (_, end) = decode(text);
        assert!(matches!(end, Err(Error::NotARecording)), "{end:?}");
        assert!(matches!(Recorder::open(&path), Err(Error::NotARecording)));
        assert_eq!(fs::read(&path).unwrap(), text);
    }
    let (_, end) = decode(b"\x89AQREC\n\x02");
    assert!(matches!(end, Err(Error::Version { version: 2 })), "{end:?}");
    // A length that is a lie takes no memory.
    let huge = [&MAGIC[..], &[0; 4], &[0xff; 4], &[0; 16]].concat();
    let (_, end) = decode(&huge);
    let len = u64::from(u32::MAX) - 12;
    assert!(matches!(end, Err(Error::TooLarge { len: it, .. }) if it == len));
}

#[test]
fn one_recorder_at_a_time_and_only_to_a_file() {
    let dir = dir();
    let path = dir.path().join("x");
    let first = Recorder::open(&path).unwrap();
    assert!(matches!(Recorder::open(&path), Err(Error::InUse { .. })));
    drop(first);
    Recorder::open(&path).unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(Recorder::open(&fifo), Err(Error::NoFile { .. })));
    assert!(matches!(Recorder::open(dir.path()), Err(Error::Io(_))));
}

#[test]
fn a_full_disk_is_an_error_and_keeps_earlier_messages() {
    let full = Recorder::open("/dev/full").map(drop).unwrap_err();
    let error = io::Error::from(full);
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    // One that goes nowhere takes all.
    let mut null = Recorder::open("/dev/null").unwrap();
    null.record(&message(1)).unwrap();
    null.sync().unwrap();
}

/// In a process of its own, which may write files of a certain size only, as if the disk were full.
/// The next message takes the place of the one without room.
#[test]
fn a_message_without_room_leaves_nothing_behind() {
    let name = "record::a_message_without_room_leaves_nothing_behind";
    alone(name, || {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        use nix::sys::signal::{SigSet, Signal};
        // It would end the process: setrlimit(2).
        let mut too_large = SigSet::empty();
        too_large.add(Signal::SIGXFSZ);
        too_large.thread_block().unwrap();
        let dir = dir();
        let path = dir.path().join("x");
        let mut recorder = Recorder::open(&path).unwrap();
        recorder.record_at(at(0), &message(0)).unwrap();
        let whole = fs::read(&path).unwrap();
        let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        let room = whole.len() as u64 + 1000;
        setrlimit(Resource::RLIMIT_FSIZE, room, most).unwrap();
        let large = Message::new(vec![b'.'; 100_000]);
        let error = recorder.record_at(at(1), &large).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
        recorder.record_at(at(1), &message(1)).unwrap();
        recorder.sync().unwrap();
        let (records, end) = decode(&fs::read(&path).unwrap());
        end.unwrap();
        assert_eq!(records.len(), 2);
        check(&records);
    });
}

#[test]
fn a_torn_record_is_cut_off_when_the_next_is_recorded() {
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, 3);
    let before = fs::read(&path).unwrap();
    // The first part of a message.
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(&before[MAGIC.len()..MAGIC.len() + 13])
        .unwrap();
    drop(file);
    let torn = fs::read(&path).unwrap();
    let mut recorder = Recorder::open(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), torn, "opening changes nothing");
    recorder.record_at(at(3), &message(3)).unwrap();
    drop(recorder);
    let (records, end) = decode(&fs::read(&path).unwrap());
    end.unwrap();
    assert_eq!(records.len(), 4);
    check(&records);
}

/// One flipped bit in a length used to make all that followed it a torn record, which was cut off.
#[test]
fn a_flipped_bit_anywhere_never_erases_records() {
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, 3);
    let whole = fs::read(&path).unwrap();
    for at_bit in MAGIC.len() * 8..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at_bit / 8] ^= 1 << (at_bit % 8);
        fs::write(&path, &flipped).unwrap();
        match Recorder::open(&path) {
            Err(Error::Damaged { .. }) => {}
            other => panic!("bit {at_bit}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), flipped, "bit {at_bit}");
    }
}

#[test]
fn a_length_over_the_limit_is_damage() {
    let dir = dir();
    let path = dir.path().join("x");
    record(&path, 1);
    let large = Message::new(vec![b'.'; 1000]);
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.record_at(at(1), &large).unwrap();
    drop(recorder);
    let all = fs::read(&path).unwrap();
    fs::write(&path, &all[..all.len() - 1]).unwrap();
    let refused = Recorder::open_with(&path, 999);
    assert!(matches!(refused, Err(Error::Damaged { whole: 1, .. })));
    Recorder::open_with(&path, 1000).unwrap();
}

#[test]
fn another_program_that_changes_the_file_is_noticed() {
    for grows in [true, false] {
        let dir = dir();
        let path = dir.path().join("x");
        let mut recorder = Recorder::open(&path).unwrap();
        recorder.record_at(at(0), &message(0)).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        let other = File::options().append(true).open(&path).unwrap();
        let changed = if grows {
            (&other).write_all(b"noise").unwrap();
            whole + 5
        } else {
            other.set_len(whole - 1).unwrap();
            whole - 1
        };
        let error = recorder.record_at(at(1), &message(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let said = error.to_string();
        assert!(said.contains("another program has changed"), "{said}");
        let now = fs::metadata(&path).unwrap().len();
        assert_eq!(now, changed, "nothing is written and nothing cut off");
    }
}

#[test]
fn a_symbolic_link_of_another_user_is_not_followed() {
    let dir = dir();
    let target = dir.path().join("target");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    // One's own.
    Recorder::open(&link).unwrap();
    let nobody = 65_534;
    if std::os::unix::fs::lchown(&link, Some(nobody), None).is_err() {
        eprintln!("only root can give a link away");
        return;
    }
    match Recorder::open(&link) {
        Err(Error::ForeignLink { owner, .. }) => assert_eq!(owner, nobody),
        other => panic!("{other:?}"),
    }
}

/// On a disk that fills up, nothing is sent twice or lost: what is not in the recording is counted.
#[test]
fn a_relay_on_a_full_disk_says_what_is_unrecorded() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    let name = "record::a_relay_on_a_full_disk_says_what_is_unrecorded";
    alone(name, || {
        const NONE: Option<&str> = None;
        let dir = dir();
        let mounted = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))
            .and_then(|()| {
                let (kind, size) = (Some("tmpfs"), Some("size=64k"));
                mount(kind, dir.path(), kind, MsFlags::empty(), size)
            });
        if mounted.is_err() {
            eprintln!("only root can mount a small file system");
            return;
        }
        let path = dir.path().join("x");
        let (unrecorded, delivered) = aqueduct_conformance::run(relayed(&path));
        let (records, end) = decode(&fs::read(&path).unwrap());
        end.unwrap();
        assert!(records.len() > 50, "{} fit", records.len());
        assert_eq!(delivered.len() as u64, records.len() as u64 + unrecorded);
        for (record, body) in records.iter().zip(&delivered) {
            assert_eq!(record.message.body(), body);
        }
        nix::mount::umount(dir.path()).unwrap();
    });
}

/// Relays messages of 1,000 bytes until the disk is full. How many were delivered unrecorded, and all
/// that were delivered.
async fn relayed(path: &Path) -> (u64, Vec<bytes::Bytes>) {
    use aqueduct::connect::Connection;
    use aqueduct::frame::Framing;
    use aqueduct::relay::{self, Relay};
    use aqueduct::service::CancellationToken;
    use futures_util::SinkExt;
    use tokio::net::UnixStream;

    let pair = || {
        let (a, b) = UnixStream::pair().unwrap();
        let lines = |io| Connection::from_io(io, Framing::lines());
        (lines(a).into_split(), lines(b).into_split())
    };
    let ((mut source, _s), (_r, incoming)) = pair();
    let ((outgoing, _o), (_p, sink)) = pair();
    let feeding = tokio::spawn(async move {
        for i in 0..200 {
            let body = format!("{i:0>1000}");
            if source.send(Message::new(body)).await.is_err() {
                break;
            }
        }
    });
    let collecting = tokio::spawn(async move {
        let bodies = sink.map_ok(Message::into_body).try_collect::<Vec<_>>();
        bodies.await.unwrap()
    });
    let mut recorder = Recorder::open(path).unwrap();
    let relay = Relay::new(incoming, outgoing).tap(|message| recorder.record(message));
    let ran = deadline(relay.run(CancellationToken::new())).await;
    let Err(relay::Error::Tap { untapped, source }) = ran else {
        panic!("{ran:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    drop((_s, _r, _o, _p));
    feeding.abort();
    (untapped, deadline(collecting).await.unwrap())
}
