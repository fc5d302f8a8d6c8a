//! TLS: openssl, socat and curl at the other end. The certificates are those of openssl, too.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::{Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input};

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
