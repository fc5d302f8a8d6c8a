//! A server that hangs: time limits of commands.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use aqueduct_conformance::deadline;

use crate::server::Server;

async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    command.args(arguments).stdin(Stdio::null());
    deadline(command.output()).await.expect("it can be run")
}

#[tokio::test]
async fn a_time_limit_holds_also_for_a_server_that_hangs() {
    let server = Server::new();
    server.stall();
    let core = server.at("svc");
    let stored = server.at("jobs?stream=JOBS&consumer=work");
    let (core, stored) = (core.as_str(), stored.as_str());
    let mut commands = vec![vec!["call", core, "x"], vec!["talk", core]];
    for address in [core, stored] {
        commands.push(vec!["send", address, "x"]);
        commands.push(vec!["recv", address]);
        commands.push(vec!["serve", address, "--", "cat"]);
        commands.push(vec!["relay", address, "stdio:"]);
        commands.push(vec!["relay", "exec:echo", address]);
    }
    for (option, words) in [
        ("--timeout", "still waiting for a server"),
        ("--wait", "the server did not answer within"),
    ] {
        let running = commands.iter().map(|command| async {
            let mut command = command.clone();
            command.splice(1..1, [option, "300ms"]);
            let since = Instant::now();
            let output = run(&command).await;
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{command:?}: {text}");
            assert!(text.contains(words), "{command:?}: {text}");
            // That of the client.
            assert!(since.elapsed() < Duration::from_secs(5), "{command:?}");
        });
        futures_util::future::join_all(running).await;
    }
}

#[tokio::test]
async fn doctor_says_that_a_server_hangs() {
    let server = Server::new();
    server.stall();
    let output = run(&["doctor", &server.at("svc"), "--json"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the server did not answer within 5s"),
        "{text}"
    );
}
