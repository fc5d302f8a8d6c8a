//! Programs in Python, with nothing but its standard library, at the other end of each mechanism.

use std::process::{Command, Stdio};

use crate::support::{Dir, Running, aqueduct, expect, expect_text, run, start, until};

/// Starts a program that finds its arguments in `argv`.
pub(crate) fn python(program: &str, args: &[&str]) -> Running {
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

/// Reads and writes messages in the framing that its first argument names, as its documentation says
/// and with nothing of ours.
const FRAMES: &str = "
import struct
name = argv[0]
def exactly(f, n):
    data = f.read(n)
    if not data and n: raise EOFError
    assert len(data) == n, (data, n)
    return data
def until(f, end):
    data = b''
    while not data.endswith(end):
        data += exactly(f, 1)
    return data[:-len(end)]
ENDS = {'lines': b'\\n', 'crlf': b'\\r\\n', 'nul': b'\\0'}
FIELDS = {'length': '>I', 'u8': 'B', 'u16be': '>H', 'u16le': '<H', 'u32be': '>I', 'u32le': '<I',
          'u64be': '>Q', 'u64le': '<Q'}
def stuff(data):
    out = b''
    for part in data.split(b'\\0'):
        while len(part) >= 254:
            out, part = out + b'\\xff' + part[:254], part[254:]
        out += bytes([len(part) + 1]) + part
    return out
def unstuff(data):
    out, at = b'', 0
    while at < len(data):
        code = data[at]
        out, at = out + data[at + 1:at + code], at + code
        if code < 255 and at < len(data): out += b'\\0'
    return out
def read(f):
    if name in ENDS: return until(f, ENDS[name])
    if name == 'netstring':
        data = exactly(f, int(until(f, b':')))
        assert exactly(f, 1) == b','
        return data
    if name == 'headers':
        import email.parser
        header = email.parser.BytesParser().parsebytes(until(f, b'\\r\\n\\r\\n'))
        n = int(header['Content-Length'])
        return exactly(f, n) if n else b''
    if name == 'cobs': return unstuff(until(f, b'\\0'))
    field, _, whole = name.partition('+')
    size = struct.calcsize(FIELDS[field])
    n, = struct.unpack(FIELDS[field], exactly(f, size))
    n -= size if whole else 0
    return exactly(f, n) if n else b''
def write(f, data):
    if name in ENDS: frame = data + ENDS[name]
    elif name == 'netstring': frame = b'%d:%s,' % (len(data), data)
    elif name == 'headers':
        frame = b'Content-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n%s' % (len(data), data)
    elif name == 'cobs': frame = stuff(data) + b'\\0'
    else:
        field, _, whole = name.partition('+')
        size = struct.calcsize(FIELDS[field])
        frame = struct.pack(FIELDS[field], len(data) + (size if whole else 0)) + data
    f.write(frame)
    f.flush()
";

const FRAMINGS: [&str; 21] = [
    "lines",
    "crlf",
    "nul",
    "length",
    "u8",
    "u16be",
    "u16le",
    "u32be",
    "u32le",
    "u64be",
    "u64le",
    "u8+header",
    "u16be+header",
    "u16le+header",
    "u32be+header",
    "u32le+header",
    "u64be+header",
    "u64le+header",
    "netstring",
    "headers",
    "cobs",
];

/// A program of `FRAMES` as a file, for an `exec:` address.
fn script(dir: &Dir, rest: &str) -> String {
    let file = path(dir, "script.py");
    let program = format!("import os, socket, sys\nargv = sys.argv[1:]\n{FRAMES}{rest}");
    std::fs::write(&file, program).unwrap();
    file
}

#[test]
fn python_answers_calls_in_every_framing() {
    let dir = Dir::new();
    let answer = "
while True:
    try: message = read(sys.stdin.buffer)
    except EOFError: break
    write(sys.stdout.buffer, message[::-1])
";
    let script = script(&dir, answer);
    let long = "0123456789".repeat(25);
    for name in FRAMINGS {
        for message in ["hello", &long, "x"] {
            let address = format!("exec:python3 -u {script} {name}?frame={name}");
            let call = run(&mut aqueduct(&["call", &address, message]));
            let reversed: String = message.chars().rev().collect();
            assert_eq!(expect_text(call, 0), format!("{reversed}\n"), "{name}");
        }
    }
}

#[test]
fn python_and_a_receiver_exchange_any_bytes_in_binary_framings() {
    let dir = Dir::new();
    // A few hundred bytes of every kind, zeros among them, both ways.
    let messages = "
def messages():
    yield bytes(range(256)) if not name.startswith('u8') else bytes(range(200))
    yield b''
    yield b'\\0' * 200
    yield b'\\0'
    yield b'x' * 253
    yield b'end'
if argv[1] == 'write':
    for message in messages(): write(sys.stdout.buffer, message)
else:
    for message in messages():
        got = read(sys.stdin.buffer)
        assert got == message, (name, got)
";
    let script = script(&dir, messages);
    for name in FRAMINGS
        .iter()
        .filter(|it| !["lines", "crlf", "nul"].contains(it))
    {
        let from = format!("exec:python3 -u {script} {name} write?frame={name}");
        let to = format!("exec:python3 -u {script} {name} read?frame={name}");
        let relay = run(&mut aqueduct(&["relay", &from, &to]));
        expect_text(relay, 0);
    }
}

/// A mail server of a few lines of shell: it speaks first, and prints each mail.
const MAIL: &str = r#"
echo "220 here"
while read -r verb rest; do
    case "$verb" in
    ehlo*) echo "250 here" ;;
    data*)
        echo "354 go on"
        while read -r line && [ "$line" != .$(printf '\r') ]; do echo "$line" >> "$0"; done
        echo "250 taken"
        ;;
    [Qq][Uu]*) echo "221 bye" && exit ;;
    *) echo "250 fine" ;;
    esac
done
"#;

#[test]
fn python_sends_a_mail_to_a_program_for_each_connection() {
    let dir = Dir::new();
    let box_ = path(&dir, "mail");
    let address = "tcp://127.0.0.1:0";
    let serve = [
        "serve",
        address,
        "--per",
        "connection",
        "--",
        "sh",
        "-c",
        MAIL,
        &box_,
    ];
    let service = start(&mut aqueduct(&serve));
    let address = service.told("tcp://127.0.0.1:");
    let port = address.rsplit(':').next().unwrap();
    let mail = r"import smtplib
with smtplib.SMTP('127.0.0.1', int(argv[0]), timeout=20) as server:
    server.sendmail('me@here', ['you@there'], 'Subject: hello\r\n\r\nworld\r\n')";
    expect_text(python(mail, &[port]).finish(), 0);
    let mail = std::fs::read_to_string(&box_).unwrap().replace('\r', "");
    assert_eq!(mail, "Subject: hello\n\nworld\n");
    service.signal(nix::sys::signal::Signal::SIGTERM);
    expect(service.finish(), 0);
}
