//! TLS: openssl, socat and curl at the other end. The certificates are those of openssl, too.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::SockRef;

use crate::support::{
    DEADLINE, Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input,
};

/// A CA, and certificates of it named `server` and `client`.
struct Files(Dir);

impl Files {
    fn new() -> Self {
        let dir = Dir::new();
        let script = r#"
set -e
new() { openssl req "$@" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes; }
new -x509 -keyout ca.key -out ca.pem -subj /CN=ca -days 2
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > extensions
for name in server client; do
    new -keyout $name.key -out $name.csr -subj "/O=Example/CN=$name"
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile extensions -out $name.pem
done"#;
        let mut sh = Command::new("sh");
        expect(run(sh.arg("-c").arg(script).current_dir(dir.path(""))), 0);
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).to_str().unwrap().to_owned()
    }

    fn showing(&self, name: &str) -> String {
        let file = |end| self.path(&format!("{name}.{end}"));
        format!("cert={}&key={}", file("pem"), file("key"))
    }

    /// Issues a further certificate with that subject, for clients.
    fn issue(&self, name: &str, subject: &str) {
        let script = r#"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -utf8 -keyout $1.key -out $1.csr -subj "$2" &&
openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out $1.pem"#;
        let mut sh = Command::new("sh");
        let sh = sh.args(["-c", script, "sh", name, subject]);
        expect(run(sh.current_dir(self.0.path(""))), 0);
    }

    /// The address of a server of others, for a client with a certificate.
    fn to(&self, port: u16) -> String {
        let (ca, showing) = (self.path("ca.pem"), self.showing("client"));
        format!("tls://localhost:{port}?ca={ca}&{showing}")
    }

    fn tool(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(name);
        command.args(args).current_dir(self.0.path(""));
        command
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts `serve`, and returns its port.
fn serve(files: &Files, options: &str, args: &[&str]) -> (Running, String) {
    let address = format!("tls://127.0.0.1:0?{}{options}", files.showing("server"));
    let mut serve = aqueduct(&["serve", &address]);
    let serve = start(serve.args(args).stdin(Stdio::null()));
    let told = serve.told("tls://127.0.0.1:");
    let told = told.split('?').next().unwrap();
    let port = told.rsplit(':').next().unwrap().to_owned();
    (serve, port)
}

fn stop(serve: Running) {
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
}

#[test]
fn openssl_and_socat_clients_are_answered() {
    let files = Files::new();
    let (serve, port) = serve(&files, "", &["--", "tr", "a-z", "A-Z"]);
    let at = format!("localhost:{port}");
    let s_client = [
        "s_client",
        "-quiet",
        "-CAfile",
        "ca.pem",
        "-verify_return_error",
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = files.tool("openssl", &s_client);
        let client = start_with_input(client.args(["-connect", &at, version]), "hello\n");
        client.printed(6);
        client.signal(Signal::SIGTERM);
        assert_eq!(client.finish().stdout, b"HELLO\n", "{version}");
    }
    let to = format!("OPENSSL:{at},cafile=ca.pem");
    let client = start_with_input(&mut files.tool("socat", &["-t", "60", "-", &to]), "hello\n");
    client.printed(6);
    client.signal(Signal::SIGTERM);
    assert_eq!(client.finish().stdout, b"HELLO\n");
    stop(serve);
}

#[test]
fn a_program_is_told_the_subject_of_an_openssl_client() {
    let files = Files::new();
    let verify = format!("&client-ca={}", files.path("ca.pem"));
    let script = "echo \"$AQUEDUCT_PEER_SUBJECT at $AQUEDUCT_PEER_ADDRESS\"";
    let (serve, port) = serve(
        &files,
        &verify,
        &["--per", "connection", "--", "sh", "-c", script],
    );
    let at = format!("localhost:{port}");
    let args = ["s_client", "-quiet", "-CAfile", "ca.pem", "-connect", &at];
    let shown = ["-cert", "client.pem", "-key", "client.key"];
    let client = files
        .tool("openssl", &args)
        .args(shown)
        .stdin(Stdio::null())
        .output();
    let said = String::from_utf8(client.unwrap().stdout).unwrap();
    assert!(
        said.starts_with("CN=client,O=Example at 127.0.0.1:"),
        "{said}"
    );
    // Without one it gets an alert.
    let client = files.tool("openssl", &args).stdin(Stdio::null()).output();
    let client = client.unwrap();
    assert!(!client.status.success() && client.stdout.is_empty());
    let said = String::from_utf8_lossy(&client.stderr).into_owned();
    assert!(said.contains("certificate required"), "{said}");
    serve.told(" WARN a client was disconnected: the client gave no certificate");
    stop(serve);
}

#[test]
fn curl_gets_a_page_over_https() {
    let files = Files::new();
    let script = "read request; printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n'";
    let per_connection = ["--per", "connection", "--", "sh", "-c", script];
    let (serve, port) = serve(&files, "&alpn=http/1.1", &per_connection);
    let url = format!("https://localhost:{port}/");
    let curl = run(&mut files.tool("curl", &["-sS", "--cacert", "ca.pem", &url]));
    assert_eq!(expect_text(curl, 0), "ok\n");
    let untrusted = run(&mut files.tool("curl", &["-sS", &url]));
    // CURLE_PEER_FAILED_VERIFICATION
    assert_eq!(untrusted.status.code(), Some(60));
    stop(serve);
}

#[test]
fn openssl_and_socat_servers_answer() {
    let files = Files::new();
    let port = free_port();
    let s_server = [
        "s_server",
        "-quiet",
        "-cert",
        "server.pem",
        "-key",
        "server.key",
        "-rev",
    ];
    let verifying = ["-CAfile", "ca.pem", "-Verify", "1", "-verify_return_error"];
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = files.tool("openssl", &s_server);
        let server = server
            .args(verifying)
            .args(["-accept", &port.to_string(), version]);
        let server = start(server.stdin(Stdio::null()));
        let call = run(&mut aqueduct(&["call", &files.to(port), "hello"]));
        assert_eq!(expect(call, 0).0, b"olleh\n", "{version}");
        // Without a certificate.
        let ca = files.path("ca.pem");
        let bare = format!("tls://localhost:{port}?ca={ca}");
        let (_, said) = expect(run(&mut aqueduct(&["call", &bare, "hello"])), 1);
        assert!(said.contains("certificate"), "{version}: {said}");
        server.signal(Signal::SIGTERM);
        server.finish();
    }
    let port = free_port();
    let listen =
        format!("OPENSSL-LISTEN:{port},reuseaddr,cert=server.pem,key=server.key,cafile=ca.pem");
    let server = start(
        files
            .tool("socat", &[&listen, "EXEC:cat"])
            .stdin(Stdio::null()),
    );
    let talk = start_with_input(&mut aqueduct(&["talk", &files.to(port)]), "hello\n");
    let (printed, _) = expect(talk.finish(), 0);
    assert_eq!(printed, b"hello\n");
    server.finish();
}

/// The address of a server at a port of one's own choice.
fn at(files: &Files, port: u16) -> String {
    format!("tls://127.0.0.1:{port}?{}", files.showing("server"))
}

#[test]
fn a_hostile_subject_cannot_change_the_environment_or_the_log() {
    let files = Files::new();
    let subject = "/O=Example, Inc/CN=a\nAQUEDUCT_ATTEMPT=7\u{1b}[31m\u{9b}1m";
    files.issue("hostile", subject);
    let expected = "CN=a\\0aAQUEDUCT_ATTEMPT=7\\1b[31m\\c2\\9b1m,O=Example\\, Inc";
    let options = format!("&client-ca={}", files.path("ca.pem"));
    let script = "printf '%s' \"$AQUEDUCT_ATTEMPT $AQUEDUCT_PEER_SUBJECT\"";
    let args = ["--max-frame", "200", "--", "sh", "-c", script];
    let (serve, port) = serve(&files, &options, &args);
    let (ca, showing) = (files.path("ca.pem"), files.showing("hostile"));
    let address = format!("tls://localhost:{port}?ca={ca}&{showing}");
    let call = run(&mut aqueduct(&["call", &address, "hello"]));
    assert_eq!(expect_text(call, 0), format!("1 {expected}\n"));
    let call = aqueduct(&["call", &address, &"x".repeat(300)]);
    let _ = run(&mut { call });
    serve.told("127.0.0.1:");
    serve.signal(Signal::SIGTERM);
    let (_, said) = expect(serve.finish(), 0);
    let line = said
        .lines()
        .find(|it| it.starts_with("aqueduct: 127.0.0.1:"));
    assert!(line.is_some_and(|it| it.contains(expected)), "{said}");
}

#[test]
fn a_relay_goes_on_with_a_tls_server_that_restarts() {
    let files = Files::new();
    let port = free_port();
    let recv = || start(aqueduct(&["recv", &at(&files, port)]).stdin(Stdio::null()));
    let first = recv();
    let fifo = files.0.fifo("lines");
    let persistent = format!("{fifo}?persist=true");
    let relay = start(aqueduct(&["relay", &persistent, &files.to(port)]).stdin(Stdio::null()));
    let send = |line: &str| expect(run(&mut aqueduct(&["send", &fifo, line])), 0);
    send("one");
    first.printed(4);
    first.signal(Signal::SIGTERM);
    assert_eq!(expect(first.finish(), 0).0, b"one\n");
    let second = recv();
    send("two");
    second.printed(4);
    relay.signal(Signal::SIGTERM);
    expect(relay.finish(), 0);
    second.signal(Signal::SIGTERM);
    assert_eq!(expect(second.finish(), 0).0, b"two\n");
}

#[test]
fn a_receiver_reconnects_to_a_tls_server_that_restarts() {
    let files = Files::new();
    let port = free_port();
    let serve = |line: &str| {
        let mut relay = aqueduct(&["relay", "stdio:", &at(&files, port), "--bind"]);
        start_with_input(&mut relay, format!("{line}\n"))
    };
    let first = serve("one");
    let to = files.to(port);
    let args = ["recv", &to, "--connect", "--reconnect", "-n", "2"];
    let recv = start(aqueduct(&args).stdin(Stdio::null()));
    recv.printed(4);
    expect(first.finish(), 0);
    let second = serve("two");
    expect(second.finish(), 0);
    assert_eq!(expect(recv.finish(), 0).0, b"one\ntwo\n");
}

#[test]
fn two_proxies_carry_plain_connections_over_tls() {
    let files = Files::new();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", service.local_addr().unwrap());
    let verify = format!("&client-ca={}", files.path("ca.pem"));
    let from = format!("tls://127.0.0.1:0?{}{verify}", files.showing("server"));
    let inner = start(aqueduct(&["proxy", &from, &target]).stdin(Stdio::null()));
    let told = inner.told("tls://127.0.0.1:");
    let port = told.split('?').next().unwrap().rsplit(':').next().unwrap();
    let to = files.to(port.parse().unwrap());
    let outer = start(aqueduct(&["proxy", "tcp://127.0.0.1:0", &to]).stdin(Stdio::null()));
    let door = outer.told("tcp://127.0.0.1:");
    let connect = || {
        let client = TcpStream::connect(door.trim_start_matches("tcp://")).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        (client, service.accept().unwrap().0)
    };
    let (mut client, mut server) = connect();
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // An end is an end, and the other direction goes on.
    assert_eq!(std::io::read_to_string(&mut server).unwrap(), "request");
    server.write_all(b"reply").unwrap();
    drop(server);
    assert_eq!(std::io::read_to_string(client).unwrap(), "reply");
    // A break is none.
    for from_client in [true, false] {
        let (mut client, mut server) = connect();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let (broken, mut other) = match from_client {
            true => (client, server),
            false => (server, client),
        };
        SockRef::from(&broken)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(broken);
        let error = other.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    stop(outer);
    stop(inner);
}
