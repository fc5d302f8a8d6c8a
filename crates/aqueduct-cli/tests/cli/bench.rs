//! `aqueduct bench`: what it measures, and what it leaves behind.

use serde_json::Value;

use crate::support::{Dir, aqueduct, expect, expect_text, run};

#[test]
fn an_address_is_measured_and_nothing_is_left_behind() {
    let dir = Dir::new();
    let (fifo, socket) = (dir.path("fifo"), dir.path("socket"));
    let addresses = [
        format!("fifo:{}", fifo.display()),
        format!("unix:{}", socket.display()),
        "tcp://127.0.0.1:0".to_owned(),
        format!("mq:/aqueduct-test-bench-{}", std::process::id()),
    ];
    let text = expect_text(run(aqueduct(&["bench", "-q"]).args(&addresses)), 0);
    let rows: Vec<Vec<&str>> = text.lines().map(|it| it.split('\t').collect()).collect();
    assert_eq!(rows.len(), 1 + addresses.len(), "{text}");
    for (row, address) in rows[1..].iter().zip(&addresses) {
        assert_eq!(row[0], address);
        let rate: f64 = row[1].parse().expect(&text);
        assert!(rate > 0.0, "{text}");
        // There and back needs two ways.
        let two_way = address.starts_with("unix:") || address.starts_with("tcp:");
        assert_eq!(row[4] != "-", two_way, "{text}");
    }
    assert!(!fifo.exists() && !socket.exists());
    let (_, stderr) = expect(run(&mut aqueduct(&["mq", "info", &addresses[3][3..]])), 1);
    assert!(stderr.contains("it does not exist"), "{stderr}");
}

#[test]
fn a_fifo_that_was_there_stays_and_json_has_every_sample() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let address = format!("fifo:{}", fifo.display());
    let text = expect_text(run(&mut aqueduct(&["bench", &address, "--json"])), 0);
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let figures = results["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 3, "{text}");
    for figure in figures {
        assert_eq!(figure["case"], address.as_str());
        assert_eq!(figure["samples"].as_array().unwrap().len(), 3);
    }
    assert!(results["machine"]["cpus"].as_u64().unwrap() > 0);
    assert!(fifo.exists());
}

/// An address that two processes cannot open is wrong use (exit code 2). One that cannot be bound is
/// a failure (1).
#[test]
fn unusable_addresses_are_wrong_use_and_failed_binds_failures() {
    let (_, stderr) = expect(run(&mut aqueduct(&["bench", "stdio:"])), 2);
    assert!(stderr.contains("two processes"), "{stderr}");
    let (_, stderr) = expect(run(&mut aqueduct(&["bench", "unix:/no/where/socket"])), 1);
    assert!(stderr.contains("/no/where/socket"), "{stderr}");
}
