use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::program::Program;
use crate::support::example;

/// An HTTP client of nothing but a socket.
fn plain(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn gets(address: &str) {
    let arguments = ["get", address, "/hello", "/nowhere", "/hello"];
    let printed = Program::start("hyper_unix", arguments).succeeds().await;
    assert_eq!(
        printed,
        [
            "/hello: 200 OK, hello",
            "/nowhere: 404 Not Found, nothing here",
            "/hello: 200 OK, hello",
        ]
    );
}

#[tokio::test]
async fn hyper_serves_http_on_every_byte_stream_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    for address in [
        format!("unix:{}", path.display()),
        String::from("tcp://127.0.0.1:0"),
    ] {
        let mut server = Program::start("hyper_unix", ["serve", &address]);
        let bound = server.error("listening on ").await;
        gets(&bound).await;
        if address.starts_with("unix:") {
            let answer = plain(&path, "GET /hello HTTP/1.0\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
            let shout = "POST /shout HTTP/1.0\r\ncontent-length: 3\r\n\r\nhey";
            assert!(plain(&path, shout).ends_with("\r\n\r\nHEY"));
            let answer = plain(&path, "nonsense\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        server.signal(Signal::SIGTERM);
        server.succeeds().await;
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn sigterm_lets_a_begun_request_finish_and_closes_idle_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    let mut server = Program::start("hyper_unix", ["serve", &address]);
    server.error("listening on ").await;

    let connect = || UnixStream::connect(&path).unwrap();
    let (mut idle, mut begun) = (connect(), connect());
    let head = "HTTP/1.1 200 OK\r\n";
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut first = vec![0; head.len()];
    idle.read_exact(&mut first).unwrap();
    // The server says "go on" when it has the head and waits for the body.
    begun
        .write_all(
            b"POST /shout HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let mut go_on = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    begun.read_exact(&mut go_on).unwrap();

    server.signal(Signal::SIGTERM);
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("hello\n"), "{rest}");
    begun.write_all(b"hey").unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with(head) && answer.ends_with("HEY"),
        "{answer}"
    );
    server.succeeds().await;
}

#[tokio::test]
async fn hyper_speaks_http_over_the_pipes_of_a_child() {
    let printed = Program::start("hyper_unix", ["child", "/hello", "/nowhere"]);
    assert_eq!(
        printed.succeeds().await,
        [
            "/hello: 200 OK, hello",
            "/nowhere: 404 Not Found, nothing here",
            "the child ended with exit status: 0",
        ]
    );
    let program = example("hyper_unix");
    let program = program.get_program().display();
    gets(&format!("exec:{program} serve stdio:")).await;
}

#[tokio::test]
async fn http_over_whole_messages_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unixpacket:{}/packets", dir.path().display());
    let mut server = Program::start("hyper_unix", ["serve", &address]);
    server.error("listening on ").await;
    let mut client = Program::start("hyper_unix", ["get", &address, "/hello"]);
    let why = client.error("Error: ").await;
    assert!(why.contains("needs a stream of bytes"), "{why}");
    assert_eq!(client.exit().await.code(), Some(1));
    server.signal(Signal::SIGTERM);
    server.succeeds().await;
}
