//! What people's scripts rely on, over every kind of address: both start orders, and giving up.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::mq::Queue;
use crate::support::{Dir, aqueduct, expect, run, start, start_with_input, until};

/// A FIFO, a queue, all Unix sockets and a TCP port, for one test.
fn addresses(dir: &Dir, queue: &Queue) -> [String; 6] {
    // Free now; that nobody else gets it before long is luck, but the system hands them out in turn.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    [
        dir.fifo("fifo"),
        queue.address(),
        format!("unix:{}", dir.path("unix").display()),
        format!("unixpacket:{}", dir.path("packets").display()),
        format!("unixgram:{}", dir.path("datagrams").display()),
        format!("tcp://127.0.0.1:{port}"),
    ]
}

#[test]
fn two_lines_arrive_whoever_starts_first_and_both_end_with_0() {
    for receiver_first in [true, false] {
        let (dir, queue) = (Dir::new(), Queue::new());
        for address in addresses(&dir, &queue) {
            let send = || start_with_input(&mut aqueduct(&["send", &address]), "a\nb\n");
            let recv = || start(&mut aqueduct(&["recv", &address, "-n", "2"]));
            let (recv, send) = if receiver_first {
                (recv(), send())
            } else {
                let send = send();
                if !address.starts_with("mq:") {
                    send.told("waiting for");
                }
                (recv(), send)
            };
            assert_eq!(expect(recv.finish(), 0).0, b"a\nb\n", "{address}");
            expect(send.finish(), 0);
        }
    }
}

#[test]
fn a_receiver_that_nobody_sends_to_gives_up_with_3_and_in_time() {
    let (dir, queue) = (Dir::new(), Queue::new());
    for address in addresses(&dir, &queue) {
        let begin = Instant::now();
        let output = run(&mut aqueduct(&["recv", &address, "--timeout", "1s"]));
        assert!(begin.elapsed() >= Duration::from_secs(1), "{address}");
        let (stdout, stderr) = expect(output, 3);
        assert!(stdout.is_empty());
        assert!(stderr.contains("for 1s"), "{address}: {stderr}");
    }
    until("nothing is left in use", || {
        !dir.path("unix").exists() && !dir.path("packets").exists()
    });
}
