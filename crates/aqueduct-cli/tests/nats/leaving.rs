//! Requests that a service does not take, and replies that nobody waits for any more.

use std::io;
use std::time::Duration;

use aqueduct::codec::{Raw, Text};
use aqueduct_conformance::deadline;
use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::endpoint;
use crate::requests::{ask, occupy, plain, serve_one_at_a_time, settle, terminate};
use crate::server::Server;

/// The code and the text of a reply that is an error.
fn error_of(reply: &Message) -> Option<(&str, &str)> {
    let headers = reply.headers.as_ref()?;
    let header = |name| headers.get(name).map(|it| it.as_str());
    Some((
        header("Nats-Service-Error-Code")?,
        header("Nats-Service-Error")?,
    ))
}

#[tokio::test]
async fn a_stopped_service_refuses_what_no_other_takes() {
    for address in ["svc?queue=workers&window=1", "svc?window=1"] {
        let server = Server::with(&[]);
        let mut stopped = serve_one_at_a_time(&server, &server.at(address));
        let asker = plain(&server).await;
        occupy(&server, &asker).await;
        let mut replies = ask(&asker, 12).await;
        terminate(&stopped);
        // What it has in hand is not finished yet.
        for _ in 0..12 {
            let reply = deadline(replies.next()).await.expect("it goes on");
            let error = Some(("503", "the service is stopping"));
            assert_eq!(error_of(&reply), error, "{address}");
        }
        std::fs::write(server.dir().join("gate"), "").expect("it is a file");
        let mut stderr = stopped.0.stderr.take().expect("it is piped");
        let told = tokio::task::spawn_blocking(move || io::read_to_string(&mut stderr));
        let told = deadline(told).await.expect("no panic").expect("text");
        assert!(
            told.contains("12 requests that waited get an error"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn bytes_that_wait_for_a_service_are_limited() {
    const MIB: usize = 1 << 20;
    let server = Server::configured("max_payload: 8MB");
    let listening = endpoint(&server.at("svc"));
    let mut listener = deadline(listening.bind()).await.expect("it is there");
    let asker = plain(&server).await;
    let inbox = asker.new_inbox();
    let mut replies = asker.subscribe(inbox.clone()).await.expect("it is there");
    // 15 of 4 MiB each and a subject fit 64 MiB.
    for _ in 0..20 {
        let body = vec![0; 4 * MIB].into();
        let asked = asker.publish_with_reply("svc", inbox.clone(), body).await;
        asked.expect("it is there");
        settle(&asker).await;
    }
    for _ in 0..5 {
        let reply = deadline(replies.next()).await.expect("it goes on");
        let (code, text) = error_of(&reply).expect("an error");
        assert!(
            code == "503" && text.contains("too many requests"),
            "{code} {text}"
        );
    }
    for _ in 0..15 {
        let request = deadline(listener.accept()).await.expect("it goes on");
        let request = request.expect("it is there");
        assert_eq!(request.peer().to_string(), "subject svc");
        let mut request = request.channel::<Bytes, Bytes>(Raw);
        let body = deadline(request.recv()).await.expect("it goes on");
        assert_eq!(body.expect("it is whole").len(), 4 * MIB);
    }
    // There is room again.
    let asked = asker.publish_with_reply("svc", inbox, "more".into());
    asked.await.expect("it is there");
    assert!(deadline(listener.accept()).await.is_some());
}

#[tokio::test]
async fn a_reply_to_a_dropped_call_is_not_taken_for_another() {
    let server = Server::with(&[]);
    let plain = plain(&server).await;
    let mut asked = plain.subscribe("svc").await.expect("it is there");
    settle(&plain).await;
    let calling = endpoint(&server.at("svc"));
    let calling = deadline(calling.connect()).await.expect("it is there");
    let mut calling = calling.channel::<String, String>(Text);
    let mut late = Vec::new();
    // One is answered late, one with an error, one never.
    for number in 0..3 {
        let call = calling.call(format!("dropped {number}"));
        tokio::select! {
            reply = call => panic!("{reply:?}"),
            request = deadline(asked.next()) => {
                let reply = request.expect("it is asked").reply;
                late.push(reply.expect("it has one"));
            }
        }
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Service-Error", "late");
    let replying = async {
        let request = deadline(asked.next()).await.expect("it is asked");
        let told = plain.publish(late[0].clone(), "late".into()).await;
        told.expect("it is there");
        let told = plain.publish_with_headers(late[1].clone(), headers, "".into());
        told.await.expect("it is there");
        let to = request.reply.expect("it has one");
        let told = plain.publish(to, request.payload).await;
        told.expect("it is there");
        plain.flush().await.expect("it is there");
    };
    let (reply, ()) = tokio::join!(deadline(calling.call("next".into())), replying);
    assert_eq!(reply.expect("it is answered"), "next");
    let more = tokio::time::timeout(Duration::from_millis(100), calling.recv());
    assert!(more.await.is_err(), "a late reply");
}
