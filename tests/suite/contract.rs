//! The contract in the documentation: every promise names a test, and every test is there. Likewise
//! SECURITY.md.

use std::path::Path;
use std::process::Command;

use crate::support::deadline;

const CONTRACT: &str = include_str!("../../crates/aqueduct/CONTRACT.md");

/// What is promised of each mechanism.
const PROMISES: [&str; 11] = [
    "Order",
    "Boundaries",
    "End of stream",
    "Peer dies",
    "Full buffer",
    "Dropped future",
    "Dropped half",
    "Dropped runtime",
    "Largest message",
    "Several writers, readers",
    "Stays behind",
];

/// What is promised of all of them.
const OF_ALL: [&str; 10] = [
    "At most once",
    "Settled",
    "Handed over",
    "Dropped future",
    "Dropped sender",
    "Unfinished message",
    "Over the limit",
    "Broken codec",
    "Idle",
    "Flood",
];

const MECHANISMS: [&str; 16] = [
    "Pipe",
    "Pipe in packet mode",
    "FIFO",
    "FIFO, shared by writers",
    "FIFO, shared under a lock",
    "Message queue",
    "Unix stream socket",
    "Shared memory",
    "Unix `SOCK_SEQPACKET` socket",
    "Unix datagram socket",
    "TCP",
    "TLS",
    "NATS",
    "UDP",
    "`exec:`, a child process",
    "`fd:N` and `stdio:`",
];

/// The tests of this program, as its harness lists them, and those that need a NATS server.
fn tests() -> Vec<String> {
    let program = std::env::current_exe().expect("a test has a path");
    let output = Command::new(program).arg("--list").output();
    let output = output.expect("it can be run");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    let names = text.lines().filter_map(|it| it.strip_suffix(": test"));
    let mut tests: Vec<_> = names.map(ToOwned::to_owned).collect();
    tests.extend(nats(&tests));
    tests
}

/// The tests of `.ci/nats`, from their source: building them takes a server's client. `suite` is what runs
/// the same cases of all transports.
fn nats(suite: &[String]) -> Vec<String> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/aqueduct-cli/tests/nats");
    let read = |file: &str| std::fs::read_to_string(at.join(file)).expect("it is there");
    let mut tests = Vec::new();
    for file in std::fs::read_dir(&at).expect("it is a folder") {
        let text = std::fs::read_to_string(file.expect("it can be read").path());
        let text = text.expect("it is a file");
        let functions = text.split("::test").flat_map(|it| {
            let (attribute, rest) = it.split_once('\n')?;
            let (_, name) = rest.split_once("fn ")?;
            attribute.ends_with(']').then(|| name.split('(').next())?
        });
        tests.extend(functions.map(|it| format!("nats::{it}")));
    }
    assert!(read("conformance.rs").contains("jetstream =>"));
    let cases = suite.iter();
    let cases = cases.filter_map(|it| it.strip_prefix("conformance::pipes::"));
    tests.extend(cases.map(|it| format!("nats::conformance::jetstream::{it}")));
    tests
}

/// Whether `name` is `test`, with modules between its first and its last word left out.
fn names(name: &str, test: &str) -> bool {
    let ends = |it: &str| {
        let first = it.split("::").next().map(ToOwned::to_owned);
        (first, it.split("::").last().map(ToOwned::to_owned))
    };
    let mut path = test.split("::");
    ends(name) == ends(test) && name.split("::").all(|word| path.any(|it| it == word))
}

/// The rest of the line that begins with `start`.
fn cell<'a>(section: &'a str, start: &str) -> Option<&'a str> {
    let rest = section.lines().find_map(|it| it.strip_prefix(start))?;
    Some(rest.trim_end_matches(['|', ' ']))
}

/// What is wrong with a contract; nothing, if all is right.
fn faults(contract: &str, tests: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let each = MECHANISMS.map(|it| (it, &PROMISES[..]));
    let all = ("All mechanisms", &OF_ALL[..]);
    for (mechanism, promises) in each.into_iter().chain([all]) {
        let Some((_, section)) = contract.split_once(&format!("\n# {mechanism}\n")) else {
            faults.push(format!("{mechanism} has no table"));
            continue;
        };
        let section = section.split("\n# ").next().unwrap_or_default();
        for promise in promises {
            let text = cell(section, &format!("| {promise} | "));
            let proof = cell(section, &format!("- {promise}: "));
            let Some((text, proof)) = text.zip(proof) else {
                faults.push(format!("{mechanism}: {promise}: no promise, or no test"));
                continue;
            };
            let proofs: Vec<_> = proof.split_whitespace().collect();
            if text.is_empty() || proofs.is_empty() {
                faults.push(format!("{mechanism}: {promise}: an empty cell"));
            }
            for proof in proofs {
                let name = proof.trim_matches('`');
                if !tests.iter().any(|it| names(name, it)) {
                    faults.push(format!("{mechanism}: {promise}: no test {name}"));
                }
            }
        }
    }
    faults
}

#[test]
fn every_promise_has_a_test() {
    assert_eq!(faults(CONTRACT, &tests()), [""; 0]);
}

#[test]
fn every_defence_names_a_test_or_a_fuzz_target() {
    let tests = tests();
    let is_there = |cell: &str, name: &str| {
        let target = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        match cell.split_once(": ") {
            Some(("fuzz", _)) => Path::new(&target).exists(),
            Some(_) => true,
            None => tests.iter().any(|test| {
                names(name, test) || format!("::{test}::").contains(&format!("::{name}::"))
            }),
        }
    };
    let rows = include_str!("../../SECURITY.md").lines();
    let cells: Vec<_> = rows
        .filter_map(|row| row.strip_suffix(" |")?.rsplit_once("| "))
        .map(|(_, cell)| cell)
        .filter(|cell| *cell != "test")
        .collect();
    assert!(cells.len() > 10);
    for cell in cells {
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {cell}");
        for name in names {
            assert!(is_there(cell, name), "no such test: {name}");
        }
    }
}

#[test]
fn a_promise_without_a_test_is_found() {
    let tests = tests();
    let one = "`pipe::packet_sends`";
    assert!(CONTRACT.contains(one));
    let renamed = CONTRACT.replace(one, "`pipe::packet_sends_no_more`");
    assert_eq!(
        faults(&renamed, &tests),
        ["Pipe in packet mode: Dropped future: no test pipe::packet_sends_no_more"]
    );
    let line = |start: &str| {
        let line = CONTRACT.lines().find(|it| it.starts_with(start));
        line.expect("it has such lines")
    };
    let without = CONTRACT.replacen(line("| Order |"), "| Order |  |", 1);
    assert_eq!(faults(&without, &tests), ["Pipe: Order: an empty cell"]);
    let none = "Pipe: Order: no promise, or no test";
    let less = CONTRACT.replacen(line("| Order |"), "", 1);
    assert_eq!(faults(&less, &tests), [none]);
    let less = CONTRACT.replacen(line("- Order: "), "", 1);
    assert_eq!(faults(&less, &tests), [none]);
    let less = CONTRACT.replacen(line("| Idle |"), "", 1);
    let none = "All mechanisms: Idle: no promise, or no test";
    assert_eq!(faults(&less, &tests), [none]);
    let none = CONTRACT.replace("# TCP\n", "# SCTP\n");
    assert_eq!(faults(&none, &tests), ["TCP has no table"]);
}

#[test]
fn a_name_may_leave_out_modules_between() {
    assert!(names("unix::bind", "unix::bind"));
    assert!(names("unix::it_binds", "unix::path::it_binds"));
    assert!(!names("unix::it_binds", "tcp::it_binds"));
    assert!(!names("mq::pool::it_waits", "mq::async_fd::it_waits"));
}

/// A connected socket whose runtime goes: its waits end in errors, on whatever runtime they are
/// polled then.
#[test]
fn a_stream_socket_that_outlives_its_runtime_fails_its_waits() {
    use aqueduct::{Channel, Endpoint, codec::Text};
    use tokio_test::{assert_pending, task};

    let runtime = || tokio::runtime::Runtime::new().expect("a runtime can be had");
    let dir = tempfile::tempdir().expect("a directory can be made");
    let unix = format!("unix:{}/socket", dir.path().display());
    for address in [unix.as_str(), "tcp://127.0.0.1:0"] {
        let first = runtime();
        let (mut here, _there) = first.block_on(deadline(async {
            let endpoint: Endpoint = address.parse().expect("it is an address");
            let mut listener = endpoint.bind().await.expect("it can be bound");
            let to = listener.local_endpoint().clone();
            let (there, here) = tokio::join!(to.connect(), listener.accept());
            let here = here.expect("somebody comes").expect("it is accepted");
            let mut here: Channel<String, String> = here.channel(Text);
            assert_pending!(task::spawn(here.recv()).poll());
            (here, there.expect("it is connected"))
        }));
        drop(first);
        let item = runtime().block_on(deadline(here.recv()));
        assert!(matches!(item, Some(Err(_))), "{address}: {item:?}");
    }
}

/// Before anybody else runs, the peer can read it; of a coalesced sender's burst the first message.
#[tokio::test]
async fn what_was_sent_is_with_the_system() {
    use std::io::Read;

    use aqueduct::frame::{FramedWrite, Framing};
    use aqueduct::{Sender, codec::Text};
    use tokio::task::{coop, yield_now};

    for coalesced in [false, true] {
        let (here, there) = tokio::net::UnixStream::pair().expect("a pair");
        let mut there = there.into_std().expect("it is a socket");
        let mut has = |expected: &[u8]| {
            let mut came = [0; 100];
            let read = there.read(&mut came).unwrap_or_default();
            assert_eq!(&came[..read], expected);
        };
        let sink = FramedWrite::new(here, Framing::lines());
        let mut sender = Sender::<&str>::new(sink, Text);
        if coalesced {
            sender = sender.coalesced();
        }
        // Whatever has run before: no turn of this task is to end within.
        yield_now().await;
        assert!(coop::has_budget_remaining());
        sender.send("one").await.expect("it is sent");
        has(b"one\n");
        sender.send("two").await.expect("it is sent");
        if coalesced {
            has(b"");
            yield_now().await;
        }
        has(b"two\n");
        sender.send("three").await.expect("it is sent");
        sender.send("four").await.expect("it is sent");
        sender.flush().await.expect("it is sent");
        has(b"three\nfour\n");
    }
}
