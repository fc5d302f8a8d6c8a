//! Programs in Python, with nothing but its standard library, at the other end of each mechanism.

use std::process::{Command, Stdio};

use crate::support::{Dir, Running, aqueduct, expect_text, run, start, until};

/// Starts a program that finds its arguments in `argv`.
fn python(program: &str, args: &[&str]) -> Running {
    let mut python = Command::new("python3");
    python.args([
        "-u",
        "-c",
        &format!("import os, socket, sys\nargv = sys.argv[1:]\n{program}"),
    ]);
    start(python.args(args).stdin(Stdio::null()))
}

fn path(dir: &Dir, name: &str) -> String {
    dir.path(name).to_str().unwrap().to_owned()
}

#[test]
fn python_reads_and_writes_a_fifo() {
    let dir = Dir::new();
    let (fifo, file) = (dir.fifo("x"), path(&dir, "x"));
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until("it is there", || dir.path("x").exists());
    let writer = python(
        "with open(argv[0], 'w') as f: print('a', 'b', sep='\\n', file=f)",
        &[&file],
    );
    expect_text(writer.finish(), 0);
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\n");
    let reader = python("print(open(argv[0]).readlines())", &[&file]);
    expect_text(run(&mut aqueduct(&["send", "-q", &fifo, "c", "d"])), 0);
    assert_eq!(expect_text(reader.finish(), 0), "['c\\n', 'd\\n']\n");
}

/// The queue functions of the C library.
const QUEUE: &str = "
import ctypes
c = ctypes.CDLL(None, use_errno=True)
queue = c.mq_open(argv[0].encode(), os.O_RDWR)
assert queue >= 0, os.strerror(ctypes.get_errno())
";

#[test]
fn python_receives_from_and_sends_to_a_queue() {
    let name = format!("/aqueduct-peers-{}", std::process::id());
    let unlink = ["mq", "unlink", "-q", &name];
    let create = [
        "mq",
        "create",
        &name,
        "--capacity",
        "2",
        "--max-message",
        "64",
        "-q",
    ];
    expect_text(run(&mut aqueduct(&create)), 0);
    let address = format!("mq:{name}");
    expect_text(
        run(&mut aqueduct(&["send", &address, "--priority", "7", "hi"])),
        0,
    );
    let receive = format!(
        "{QUEUE}
buf, priority = ctypes.create_string_buffer(64), ctypes.c_uint()
n = c.mq_receive(queue, buf, 64, ctypes.byref(priority))
print(buf.raw[:n], priority.value)"
    );
    let received = python(&receive, &[&name]).finish();
    let send = format!("{QUEUE}\nassert c.mq_send(queue, b'yo', 2, 3) == 0");
    let sent = python(&send, &[&name]).finish();
    let recv = run(&mut aqueduct(&[
        "recv",
        &address,
        "-n",
        "1",
        "--timeout",
        "5s",
    ]));
    expect_text(run(&mut aqueduct(&unlink)), 0);
    assert_eq!(expect_text(received, 0), "b'hi' 7\n");
    expect_text(sent, 0);
    assert_eq!(expect_text(recv, 0), "yo\n");
}

#[test]
fn python_calls_a_service_over_unix_packets_and_tcp() {
    let dir = Dir::new();
    let stream = "
s = socket.socket(socket.AF_UNIX if argv[0].startswith('/') else socket.AF_INET)
host, _, port = argv[0].partition(':')
s.connect(argv[0] if argv[0].startswith('/') else (host, int(port)))
f = s.makefile('rw')
for word in 'one', 'two':
    print(word, file=f, flush=True)
    print(f.readline().strip())
";
    let packets = "
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(argv[0])
for word in b'one', b'two':
    s.send(word)
    print(s.recv(100).decode())
";
    let (unix, packet) = (path(&dir, "unix"), path(&dir, "packet"));
    for (address, program) in [
        (format!("unix:{unix}"), stream),
        (format!("unixpacket:{packet}"), packets),
        ("tcp://127.0.0.1:0".to_owned(), stream),
    ] {
        let mut serve = aqueduct(&["serve", &address, "--", "tr", "a-z", "A-Z"]);
        let serve = start(serve.stdin(Stdio::null()));
        serve.told("serving ");
        let told = serve.told(address.split(':').next().unwrap());
        let to = told.split_once(':').unwrap().1.trim_start_matches("//");
        let client = python(program, &[to]);
        assert_eq!(expect_text(client.finish(), 0), "ONE\nTWO\n", "{address}");
    }
}

#[test]
fn python_serves_what_we_call_and_takes_what_we_send() {
    let dir = Dir::new();
    let file = path(&dir, "x");
    let address = format!("unix:{file}");
    let program = "
s = socket.socket(socket.AF_UNIX)
s.bind(argv[0])
s.listen()
for answer in True, False:
    f = s.accept()[0].makefile('rw')
    for line in f:
        if answer:
            print(line.strip()[::-1], file=f, flush=True)
        else:
            print(line.strip())
";
    let server = python(program, &[&file]);
    // Either may be first: it is waited for.
    assert_eq!(
        expect_text(run(&mut aqueduct(&["call", "-q", &address, "abc"])), 0),
        "cba\n"
    );
    expect_text(run(&mut aqueduct(&["send", "-q", &address, "x", "y"])), 0);
    assert_eq!(expect_text(server.finish(), 0), "x\ny\n");
}
