use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::program::Program;

async fn reads(clients: &mut [&mut Program], line: &str) {
    for client in clients {
        assert_eq!(client.line().await.as_deref(), Some(line));
    }
}

#[tokio::test]
async fn what_one_member_says_all_read_until_the_service_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sock");
    let unix = format!("unix:{}", path.display());
    let mut server = Program::start("chat", ["serve", &unix, "tcp://127.0.0.1:0"]);
    assert_eq!(server.line().await, Some(format!("listening on {unix}")));
    let tcp = server.line().await.unwrap();
    let tcp = tcp.strip_prefix("listening on ").unwrap();

    let mut ann = Program::start("chat", ["join", &unix, "ann"]);
    reads(&mut [&mut ann], "* ann is here").await;
    let mut ben = Program::start("chat", ["join", tcp, "ben"]);
    reads(&mut [&mut ann, &mut ben], "* ben is here").await;
    ann.say("hello").await;
    reads(&mut [&mut ann, &mut ben], "ann: hello").await;
    ben.say("good morning").await;
    reads(&mut [&mut ann, &mut ben], "ben: good morning").await;

    // A client that knows nothing of the library.
    let port = tcp.strip_prefix("tcp:").unwrap().trim_start_matches('/');
    let mut cem = TcpStream::connect(port).unwrap();
    cem.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    cem.write_all(b"{\"Enter\":\"cem\"}\n{\"Say\":\"plain\"}\n")
        .unwrap();
    reads(&mut [&mut ann, &mut ben], "* cem is here").await;
    reads(&mut [&mut ann, &mut ben], "cem: plain").await;
    // Nonsense costs its own connection, and what it has not read is no concern of the others.
    cem.write_all(b"nonsense\n").unwrap();
    reads(&mut [&mut ann, &mut ben], "* cem has left").await;
    let mut heard = String::new();
    cem.read_to_string(&mut heard).ok();
    assert!(heard.starts_with("{\"Entered\":\"cem\"}\n"), "{heard}");

    let mut dora = Program::start("chat", ["join", tcp, "dora"]);
    reads(&mut [&mut ann, &mut ben, &mut dora], "* dora is here").await;
    dora.end_input();
    reads(&mut [&mut ann, &mut ben], "* dora has left").await;
    // She may hear of it herself, if that is sooner than the end.
    let last = dora.succeeds().await;
    assert!(last.iter().all(|it| it == "* dora has left"), "{last:?}");

    server.signal(Signal::SIGTERM);
    for client in [ann, ben] {
        let lines = client.succeeds().await;
        assert_eq!(lines.last().unwrap(), "* the chat closes");
    }
    assert_eq!(server.succeeds().await, ["closed after 4 clients"]);
    assert!(!path.exists());
}
