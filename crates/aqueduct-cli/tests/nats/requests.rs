//! `serve` and `call` over core subjects, beside plain clients.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aqueduct::OpenErrorKind;
use aqueduct::codec::Text;
use aqueduct::connect::{Options, Reconnect};
use aqueduct_conformance::deadline;
use futures_util::StreamExt;

use crate::endpoint;
use crate::server::Server;

/// A process that is killed at the end.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    fn kill(&mut self) {
        self.0.kill().expect("it is a child");
        self.0.wait().expect("it is a child");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `aqueduct serve` with a shell command.
pub(crate) fn serve(address: &str, command: &str) -> Killed {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    let serve = serve.args(["--quiet", "serve", address, "--", "sh", "-c", command]);
    Killed(serve.stdin(Stdio::null()).spawn().expect("it can be run"))
}

/// Starts one that takes one request at a time and answers once the file `gate` is there.
pub(crate) fn serve_one_at_a_time(server: &Server, address: &str) -> Killed {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    serve.args(["serve", address, "--max-connections", "1", "--"]);
    serve.args([
        "sh",
        "-c",
        "touch begun; until test -e gate; do sleep 0.01; done; cat",
    ]);
    serve
        .current_dir(server.dir())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    Killed(serve.spawn().expect("it can be run"))
}

pub(crate) fn terminate(service: &Killed) {
    let pid = nix::unistd::Pid::from_raw(service.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is a child");
}

pub(crate) async fn appears(path: &std::path::Path) {
    let exists = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    deadline(exists).await;
}

pub(crate) async fn plain(server: &Server) -> async_nats::Client {
    let plain = async_nats::connect(server.url()).await;
    plain.expect("it is there")
}

/// Waits until the server has taken everything that a client sent.
pub(crate) async fn settle(client: &async_nats::Client) {
    let mut inbox = client
        .subscribe(client.new_inbox())
        .await
        .expect("it is there");
    inbox.drain().await.expect("it is there");
    assert!(deadline(inbox.next()).await.is_none());
}

/// Gives work to [the service](serve_one_at_a_time) as soon as it is there.
pub(crate) async fn occupy(server: &Server, client: &async_nats::Client) {
    let begun = server.dir().join("begun");
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("it is there");
    let asking = async {
        loop {
            let asked = client.publish_with_reply("svc", inbox.clone(), "first".into());
            asked.await.expect("it is there");
            tokio::select! {
                // Nobody receives it yet.
                _ = replies.next() => {}
                () = appears(&begun) => break,
            }
        }
    };
    deadline(asking).await;
}

/// Sends numbers as requests, and returns their replies.
pub(crate) async fn ask(client: &async_nats::Client, numbers: u32) -> async_nats::Subscriber {
    let inbox = client.new_inbox();
    let replies = client.subscribe(inbox.clone()).await.expect("it is there");
    for number in 0..numbers {
        let asked = client.publish_with_reply("svc", inbox.clone(), number.to_string().into());
        asked.await.expect("it is there");
    }
    settle(client).await;
    replies
}

/// What `aqueduct call` prints, on standard output or error, and its exit code.
pub(crate) async fn call(address: &str, message: &str, timeout: &str) -> (String, i32) {
    let mut call = tokio::process::Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    call.args(["call", address, message, "--timeout", timeout]);
    let output = deadline(call.output()).await.expect("it can be run");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    (text, output.status.code().expect("it ends"))
}

/// Calls until somebody serves the address.
pub(crate) async fn call_until_served(address: &str) -> String {
    loop {
        match call(address, "hello", "5s").await {
            (reply, 0) => return reply,
            (error, _) => assert!(error.contains("no process receives"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_killed_member_of_a_queue_group_leaves_the_rest() {
    let server = Server::with(&[]);
    let group = server.at("svc?queue=workers");
    // The process that serves is the parent of the shell.
    let mut workers = [(); 2].map(|()| serve(&group, "cat >/dev/null; echo $PPID"));
    let address = server.at("svc");
    let mut replies = BTreeMap::new();
    deadline(async {
        while replies.len() < 2 {
            *replies
                .entry(call_until_served(&address).await)
                .or_insert(0) += 1;
        }
    })
    .await;
    let pids = [0, 1].map(|at| workers[at].0.id().to_string());
    assert!(replies.keys().all(|it| pids.contains(it)), "{replies:?}");
    workers[0].kill();
    let mut silent = 0;
    for _ in 0..10 {
        match call(&address, "hello", "2s").await {
            (reply, 0) => assert_eq!(reply, pids[1]),
            // The server had not noticed it yet.
            (_, 3) => silent += 1,
            (error, code) => panic!("{code}: {error}"),
        }
    }
    assert!(silent <= 1, "{silent} calls without a reply");
    workers[1].kill();
    let (error, code) = call(&address, "hello", "5s").await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("no process receives the subject svc: start"));
}

#[tokio::test]
async fn a_request_without_a_reply_times_out() {
    let server = Server::with(&[]);
    let address = server.at("svc");
    let _worker = serve(&address, "read n; test $n != never || exec sleep 5");
    call_until_served(&address).await;
    let (error, code) = call(&address, "never", "300ms").await;
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("no reply arrived"), "{error}");
}

#[tokio::test]
async fn a_stopped_service_answers_what_it_has_in_hand() {
    let server = Server::with(&[]);
    let address = server.at("svc");
    let file = |name| server.dir().join(name).display().to_string();
    let (begun, gate) = (file("begun"), file("gate"));
    let command = format!(
        "read n; test $n = hello && exit; touch {begun}; until test -e {gate}; do sleep 0.01; done; echo $n"
    );
    let mut worker = serve(&address, &command);
    call_until_served(&address).await;
    let calling = tokio::spawn({
        let address = address.clone();
        async move { call(&address, "last", "20s").await }
    });
    appears(begun.as_ref()).await;
    terminate(&worker);
    // It takes no more.
    deadline(async { while call(&address, "hello", "5s").await.1 != 1 {} }).await;
    std::fs::write(&gate, "").expect("it is a file");
    let reply = deadline(calling).await.expect("no panic");
    assert_eq!(reply, ("last".to_owned(), 0));
    let ended = tokio::task::spawn_blocking(move || worker.0.wait());
    let ended = deadline(ended).await.expect("no panic").expect("a child");
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn plain_clients_ask_and_reply() {
    let server = Server::with(&[]);
    let plain = async_nats::connect(server.url())
        .await
        .expect("it is there");
    let _worker = serve(&server.at("upper.*"), "tr a-z A-Z");
    call_until_served(&server.at("upper.x")).await;
    let reply = deadline(plain.request("upper.x", "hello".into())).await;
    assert_eq!(reply.expect("it is served").payload, "HELLO");
    let mut asked = plain.subscribe("lower").await.expect("it is there");
    plain.flush().await.expect("it is there");
    let replying = tokio::spawn(async move {
        let asked = asked.next().await.expect("it is asked");
        let reply = asked.payload.to_ascii_lowercase();
        let to = asked.reply.expect("it has one");
        plain.publish(to, reply.into()).await.expect("it is there");
        plain.flush().await.expect("it is there");
    });
    let reply = call(&server.at("lower"), "HELLO", "10s").await;
    assert_eq!(reply, ("hello".to_owned(), 0));
    deadline(replying).await.expect("it has replied");
}

#[tokio::test]
async fn a_lost_server_ends_a_conversation_or_is_replaced() {
    let mut server = Server::with(&[]);
    let address = endpoint(&server.at("svc"));
    let mut listener = deadline(address.bind()).await.expect("it is there");
    tokio::spawn(async move {
        while let Some(Ok(request)) = listener.accept().await {
            let mut request = request.channel::<String, String>(Text);
            if let Some(Ok(text)) = request.recv().await {
                // One whose connection is lost gets no reply.
                let _ = request.send(text).await;
            }
        }
    });
    let mut options = Options::new();
    let plain = deadline(options.connect(&address))
        .await
        .expect("it is there");
    let mut plain = plain.channel::<String, String>(Text);
    let reply = deadline(plain.call("one".into())).await;
    assert_eq!(reply.expect("it is served"), "one");
    let lasting = options.reconnect(Some(Reconnect::new())).connect(&address);
    let lasting = deadline(lasting).await.expect("it is there");
    let mut lasting = lasting.channel::<String, String>(Text);
    let reply = deadline(lasting.call("two".into())).await;
    assert_eq!(reply.expect("it is served"), "two");
    server.restart();
    let error = deadline(plain.recv()).await.expect("an error");
    let error = error.expect_err("the connection is lost");
    let text = format!("{:?}", std::error::Error::source(&error));
    assert!(text.contains("connect again"), "{text}");
    deadline(async {
        // Nobody serves it until the service has connected again.
        let mut text = 0;
        loop {
            text += 1;
            lasting.send(text.to_string()).await.expect("it goes on");
            match tokio::time::timeout(Duration::from_secs(1), lasting.recv()).await {
                Ok(Some(Ok(reply))) => break assert!(!reply.is_empty()),
                Ok(None) => panic!("it has ended"),
                Ok(Some(Err(_))) | Err(_) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_there_is_an_error_of_one_request() {
    let server = Server::with(&[]);
    let address = endpoint(&server.at("svc"));
    let asking = deadline(address.connect()).await.expect("it is there");
    let (mut sender, mut replies) = asking.into_split();
    for _ in 0..2 {
        let sent = futures_util::SinkExt::send(&mut sender, "hello".into());
        deadline(sent).await.expect("it is sent");
        let reply = deadline(replies.next()).await.expect("it goes on");
        let error = reply.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
    for (address, kind) in [
        (server.at("svc.*"), OpenErrorKind::InvalidName),
        (server.at("svc?stream=S"), OpenErrorKind::Unsupported),
    ] {
        let error = deadline(endpoint(&address).connect()).await;
        assert_eq!(error.expect_err(&address).kind(), &kind);
    }
}

#[tokio::test]
async fn a_forbidden_reply_subject_does_not_end_a_service() {
    let server = Server::configured(
        r#"authorization { users = [
            { user: svc, password: p, permissions: { publish: { allow: "_INBOX.>" } } }
            { user: other, password: p }
        ] }"#,
    );
    let at = |user: &str| server.at("svc").replace("//", &format!("//{user}:p@"));
    let mut service = serve(&at("svc"), "cat");
    call_until_served(&at("other")).await;
    let other = async_nats::ConnectOptions::with_user_and_password("other".into(), "p".into());
    let other = other.connect(server.url()).await.expect("it is there");
    for _ in 0..3 {
        let sent = other.publish_with_reply("svc", "forbidden.x", "1".into());
        sent.await.expect("it is there");
        settle(&other).await;
        let reply = call(&at("other"), "hello", "10s").await;
        assert_eq!(reply, ("hello".to_owned(), 0));
    }
    assert!(service.0.try_wait().expect("it is a child").is_none());
}

#[tokio::test]
async fn a_stopped_member_passes_on_what_waits() {
    let server = Server::with(&[]);
    let mut stopped = serve_one_at_a_time(&server, &server.at("svc?queue=workers&window=4"));
    let (asker, member) = (plain(&server).await, plain(&server).await);
    occupy(&server, &asker).await;
    let mut replies = ask(&asker, 12).await;
    let mut asked = member
        .queue_subscribe("svc", "workers".into())
        .await
        .expect("it is there");
    settle(&member).await;
    terminate(&stopped);
    for _ in 0..12 {
        let request = deadline(asked.next()).await.expect("it goes on");
        let to = request.reply.expect("it has one");
        let replied = member.publish(to, request.payload).await;
        replied.expect("it is there");
    }
    let mut seen: Vec<u32> = Vec::new();
    for _ in 0..12 {
        let reply = deadline(replies.next()).await.expect("it goes on");
        let number = std::str::from_utf8(&reply.payload).expect("a number");
        seen.push(number.parse().expect("a number"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    std::fs::write(server.dir().join("gate"), "").expect("it is a file");
    let ended = tokio::task::spawn_blocking(move || stopped.0.wait());
    let ended = deadline(ended).await.expect("no panic").expect("a child");
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn further_replies_are_not_taken_for_those_of_later_requests() {
    let server = Server::with(&[]);
    let plain = plain(&server).await;
    let mut asked = plain.subscribe("svc").await.expect("it is there");
    settle(&plain).await;
    let replying = async {
        let mut before = None;
        while let Some(request) = asked.next().await {
            let to = request.reply.expect("it has one");
            // That of the other service comes with the next request.
            if let Some((to, body)) = before.replace((to.clone(), request.payload.clone())) {
                plain.publish(to, body).await.expect("it is there");
            }
            for _ in 0..2 {
                let body = request.payload.clone();
                plain.publish(to.clone(), body).await.expect("it is there");
            }
        }
    };
    let asking = async {
        let address = endpoint(&server.at("svc"));
        let asking = address.connect().await.expect("it is there");
        let mut asking = asking.channel::<String, String>(Text);
        for number in 0..12 {
            let reply = deadline(asking.call(number.to_string())).await;
            assert_eq!(reply.expect("it is served"), number.to_string());
        }
        // Replies to the newest request are all there.
        let reply = deadline(asking.recv()).await.expect("it goes on");
        assert_eq!(reply.expect("it is served"), "11");
    };
    tokio::select! {
        () = replying => panic!("it has ended"),
        () = asking => {}
    }
}

#[tokio::test]
async fn errors_of_a_service_reach_its_caller() {
    let server = Server::configured("max_payload: 1024");
    let _service = serve(&server.at("svc"), "head -c 5000 /dev/zero");
    let served = async {
        loop {
            match call(&server.at("svc"), "hello", "20s").await {
                (error, 1) if error.contains("no process receives") => {}
                (error, code) => break (error, code),
            }
        }
    };
    let (error, code) = deadline(served).await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("the service failed"), "{error}");
    assert!(error.contains("(code 500)"), "{error}");
    let plain = plain(&server).await;
    let mut asked = plain.subscribe("broken").await.expect("it is there");
    settle(&plain).await;
    tokio::spawn(async move {
        let to = asked.next().await.expect("it is asked").reply;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Service-Error", "out of paper");
        headers.insert("Nats-Service-Error-Code", "507");
        let to = to.expect("it has one");
        let replied = plain.publish_with_headers(to, headers, "".into()).await;
        replied.expect("it is there");
        settle(&plain).await;
    });
    let (error, code) = call(&server.at("broken"), "hello", "20s").await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("out of paper (code 507)"), "{error}");
}
