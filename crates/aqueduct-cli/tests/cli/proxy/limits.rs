//! Limits of `aqueduct proxy`: clients, descriptors and time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{client, proxy, stopped, upstream};
use crate::support::{DEADLINE, Dir, aqueduct, expect, start, until};

/// A fifth of the clients is cut off; none of the others notices.
#[test]
fn a_thousand_clients_and_some_of_them_cut() {
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    // This process holds both far ends.
    let clients = 1000.min(soft.saturating_sub(100) as usize / 2);
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address]);
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", running.pid()))
            .unwrap()
            .count()
    };
    let before = open();
    let mut pairs = Vec::new();
    for i in 0..clients {
        let mut here = client(&port);
        let (there, _) = listener.accept().unwrap();
        there.set_read_timeout(Some(DEADLINE)).unwrap();
        here.write_all(&(i as u32).to_be_bytes()).unwrap();
        pairs.push((here, there));
    }
    let mut kept = Vec::new();
    for (i, pair) in pairs.into_iter().enumerate() {
        match i % 5 {
            0 => drop(pair),
            _ => kept.push((i as u32, pair)),
        }
    }
    for (i, (here, there)) in &mut kept {
        let mut got = [0; 4];
        there.read_exact(&mut got).unwrap();
        assert_eq!(u32::from_be_bytes(got), *i);
        there.write_all(&got).unwrap();
        here.read_exact(&mut got).unwrap();
        assert_eq!(u32::from_be_bytes(got), *i);
    }
    drop(kept);
    until("no descriptor is left", || open() <= before);
    stopped(running);
}

/// Those for whom there are no descriptors wait in the queue of the system.
#[test]
fn more_clients_than_descriptors_are_served_in_turn() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let command = aqueduct(&["proxy", "tcp://127.0.0.1:0", &address, "--wait", "1s"]);
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -n 40; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let running = start(&mut limited);
    let port = running.told("tcp://127.0.0.1:");
    let port = port.trim_start_matches("tcp://");
    thread::spawn(move || {
        for there in listener.incoming() {
            let mut there = there.unwrap();
            thread::spawn(move || {
                let mut word = [0];
                there.read_exact(&mut word).unwrap();
                there.write_all(&word).unwrap();
                // It stays until its client has gone.
                let _ = there.read(&mut word);
            });
        }
    });
    let mut clients: Vec<TcpStream> = (0..60).map(|_| client(port)).collect();
    running.told("ulimit");
    for (i, client) in clients.iter_mut().enumerate() {
        client.write_all(&[i as u8]).unwrap();
    }
    for (i, mut client) in clients.into_iter().enumerate() {
        let mut word = [0];
        client.read_exact(&mut word).unwrap();
        assert_eq!(word, [i as u8]);
    }
    stopped(running);
}

#[test]
fn only_so_many_clients_at_a_time() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address, "--max-connections", "1"]);
    let first = client(&port);
    let (there, _) = listener.accept().unwrap();
    let mut second = client(&port);
    second.write_all(b"2").unwrap();
    drop((first, there));
    let (mut there, _) = listener.accept().unwrap();
    there.read_exact(&mut [0]).unwrap();
    drop((second, there));
    stopped(running);
}

#[test]
fn a_client_that_is_silent_for_too_long_is_reset() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    for (flag, speaks, said) in [
        (
            "--first-timeout",
            false,
            "the client sent nothing for 100ms",
        ),
        ("--idle-timeout", false, "nothing passed for 100ms"),
        ("--idle-timeout", true, "nothing passed for 100ms"),
    ] {
        let (running, port) = proxy(&[&address, flag, "100ms"]);
        let mut here = client(&port);
        let (mut there, _) = listener.accept().unwrap();
        if speaks {
            here.write_all(b"x").unwrap();
            there.read_exact(&mut [0]).unwrap();
        }
        let error = here.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(there.read(&mut [0]).unwrap(), 0);
        running.told(said);
        stopped(running);
    }
}

#[test]
fn a_client_that_listens_is_not_silent() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address, "--first-timeout", "1s", "--idle-timeout", "1s"]);
    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    here.write_all(b"x").unwrap();
    let start = std::time::Instant::now();
    // Longer than each limit, without a longer pause.
    while start.elapsed() < Duration::from_millis(1500) {
        there.write_all(b"y").unwrap();
        here.read_exact(&mut [0]).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    drop((here, there));
    stopped(running);
}

#[test]
fn a_proxy_through_which_nothing_passes_times_out() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address, "--timeout", "100ms"]);
    let here = client(&port);
    let (there, _) = listener.accept().unwrap();
    let (_, said) = expect(running.finish(), 3);
    assert!(said.contains("nothing passed between"), "{said}");
    drop((here, there));
}
