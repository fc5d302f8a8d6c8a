use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aqueduct::OpenErrorKind;
use aqueduct::fifo::{OpenOptions, Receiver, Sender};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Open, config, done, dropped, killed, waits};
use crate::support::alone;

/// As much as is kept in the FIFO at a time: less than a page, which is all that a user may get.
const ROOM: usize = 3000;

#[derive(Clone, Debug)]
enum Op {
    OpenReader,
    CloseReader,
    OpenWriter,
    CloseWriter,
    Write(usize),
    DropWrite(usize),
    Read(usize),
    DropRead(usize),
    /// One that has written this much.
    KilledWriter(usize),
    /// One that has read this much.
    KilledReader(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::OpenReader),
        2 => Just(Op::CloseReader),
        4 => Just(Op::OpenWriter),
        3 => Just(Op::CloseWriter),
        8 => (1..600_usize).prop_map(Op::Write),
        4 => (1..600_usize).prop_map(Op::DropWrite),
        8 => (1..900_usize).prop_map(Op::Read),
        4 => (1..900_usize).prop_map(Op::DropRead),
        1 => (1..600_usize).prop_map(Op::KilledWriter),
        1 => (1..600_usize).prop_map(Op::KilledReader),
    ]
}

#[test]
fn a_fifo_is_a_string_of_bytes_with_ends() {
    alone("model::fifo::a_fifo_is_a_string_of_bytes_with_ends", || {
        compare(false);
    });
}

#[test]
fn a_fifo_with_a_persistent_reader_has_no_end() {
    alone(
        "model::fifo::a_fifo_with_a_persistent_reader_has_no_end",
        || {
            compare(true);
        },
    );
}

fn compare(persistent: bool) {
    let ops = proptest::collection::vec(op(), 1..80);
    proptest!(config(), |(ops in ops)| {
        aqueduct_conformance::run(play(persistent, ops));
    });
}

/// What a FIFO is.
#[derive(Debug, Default)]
struct Model {
    bytes: VecDeque<u8>,
    /// Whether this reader's writers can have gone: it has had one.
    had_writer: bool,
    next: u8,
}

impl Model {
    /// Bytes that no two places have the same of.
    fn make(&mut self, len: usize) -> Vec<u8> {
        let begin = self.next;
        self.next = self.next.wrapping_add(len as u8).wrapping_mul(3);
        (0..len)
            .map(|i| begin.wrapping_add((i % 251) as u8))
            .collect()
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let len = most.min(self.bytes.len());
        self.bytes.drain(..len).collect()
    }
}

async fn play(persistent: bool, ops: Vec<Op>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fifo");
    let at = path.to_str().expect("UTF-8");
    let mut options = OpenOptions::new();
    options.create(true).persist(persistent);
    let mut model = Model::default();
    let (mut reader, mut writers): (Option<Receiver>, Vec<Sender>) = (None, Vec::new());
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("it is made");
    for op in ops {
        match op {
            Op::OpenReader if reader.is_none() => {
                reader = Some(options.open_receiver(&path).expect("it is opened"));
                model.had_writer = !writers.is_empty();
            }
            Op::CloseReader => reader = None,
            Op::OpenWriter if writers.len() < 3 => {
                match (options.try_open_sender(&path), &reader) {
                    (Ok(sender), Some(_)) => {
                        writers.push(sender);
                        model.had_writer = true;
                    }
                    (Err(error), None) if *error.kind() == OpenErrorKind::Refused => {}
                    (other, reader) => panic!("{other:?} with {reader:?}"),
                }
            }
            Op::CloseWriter => drop(writers.pop()),
            Op::Write(len) | Op::DropWrite(len) => {
                if writers.is_empty() || model.bytes.len() + len > ROOM {
                    continue;
                }
                let bytes = model.make(len);
                let which = len % writers.len();
                let write = writers[which].write(&bytes);
                let written = if matches!(op, Op::Write(_)) {
                    Some(done(write).await)
                } else {
                    dropped(write).await
                };
                match (written, &reader) {
                    (None, _) => {}
                    (Some(written), Some(_)) => {
                        assert_eq!(written.expect("there is room"), len);
                        model.bytes.extend(bytes);
                    }
                    (Some(written), None) => {
                        let error = written.expect_err("nobody reads");
                        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                    }
                }
            }
            Op::Read(most) | Op::DropRead(most) => {
                let Some(reader) = &mut reader else { continue };
                let ends = !persistent && writers.is_empty() && model.had_writer;
                let mut buf = vec![0; most];
                let read = reader.read(&mut buf);
                let read = if matches!(op, Op::DropRead(_)) {
                    dropped(read).await
                } else if model.bytes.is_empty() && !ends {
                    waits(read).await;
                    None
                } else {
                    Some(done(read).await)
                };
                if let Some(read) = read {
                    let len = read.expect("it is read");
                    assert!(len > 0 || ends, "it ends while there is a writer");
                    // The library may read less than there is, never nothing.
                    let expected = model.take(len);
                    assert_eq!(buf[..len], expected);
                    assert!(len > 0 || model.bytes.is_empty());
                }
            }
            Op::KilledWriter(len) if reader.is_some() && model.bytes.len() + len <= ROOM => {
                let bytes = model.make(len);
                assert_eq!(
                    killed(&format!("fifo write {} {len}", bytes[0]), at),
                    "written"
                );
                model.bytes.extend(bytes);
                model.had_writer = true;
            }
            // It takes bytes with it.
            Op::KilledReader(most) if !writers.is_empty() && !model.bytes.is_empty() => {
                let said = killed(&format!("fifo read {most}"), at);
                assert_eq!(said, format!("{:?}", model.take(most)));
            }
            _ => {}
        }
        if reader.is_none() && writers.is_empty() {
            model.bytes.clear();
        }
    }
}

pub(super) async fn peer(what: &str, path: &str) -> (String, Open) {
    let words: Vec<_> = what.split(' ').collect();
    let number = |word: &str| -> usize { word.parse().expect("a number") };
    match words[..] {
        ["write", begin, len] => {
            let mut file = open(path.as_ref(), false);
            let begin = number(begin) as u8;
            let bytes = (0..number(len)).map(|i| begin.wrapping_add((i % 251) as u8));
            let bytes: Vec<u8> = bytes.collect();
            file.write_all(&bytes).expect("there is room");
            ("written".into(), Box::new(file))
        }
        ["read", most] => {
            let mut file = open(path.as_ref(), true);
            let mut buf = vec![0; number(most)];
            let len = file.read(&mut buf).expect("it is there");
            (format!("{:?}", &buf[..len]), Box::new(file))
        }
        _ => panic!("{what:?} is nothing to do"),
    }
}

fn open(path: &Path, read: bool) -> File {
    let mut options = File::options();
    options.read(read).write(!read);
    let opened = options.custom_flags(libc::O_NONBLOCK).open(path);
    opened.expect("the FIFO can be opened")
}
