//! Requests and replies: `call`.

use std::io::{self, BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::call::{Caller, Error, Responder};
use aqueduct::codec::{Json, Text};
use aqueduct::connect::{Connection, Options, Reconnect};
use aqueduct::frame::Framing;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{SinkExt, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::PollSender;

use crate::support::{Peer, deadline, is_peer, peer_command};

type Texts = Caller<String, String>;

/// A caller, and a responder that is given what makes its replies.
fn pair() -> (Texts, Responder<String, String>) {
    let (here, there) = Connection::pair();
    (
        Caller::new(here, Text).unwrap(),
        Responder::new(there, Text),
    )
}

/// Connections that refuse messages over this size.
fn small(bytes: usize) -> (Connection, Connection) {
    let (here, there) = UnixStream::pair().unwrap();
    let framing = Framing::length().max_frame(bytes);
    let connection = |io| Connection::from_io(io, framing.clone());
    (connection(here), connection(there))
}

/// Says when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().map(|it| it.send(()));
    }
}

/// A handler that never replies to "hang", and tells when it was dropped.
fn hanging() -> (
    impl Fn(String) -> BoxFuture<'static, String> + Send + 'static,
    oneshot::Receiver<()>,
) {
    let (dropped, was_dropped) = oneshot::channel();
    let dropped = Mutex::new(Some(dropped));
    let handler = move |request: String| -> BoxFuture<'static, String> {
        if request != "hang" {
            return Box::pin(async { request });
        }
        let dropped = Dropped(dropped.lock().unwrap().take());
        Box::pin(async move {
            let _dropped = dropped;
            std::future::pending().await
        })
    };
    (handler, was_dropped)
}

#[tokio::test]
async fn replies_come_in_any_order() {
    let (caller, responder) = pair();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    tokio::spawn(responder.run(move |request: String| {
        let closed = Arc::clone(&closed);
        async move {
            if request == "first" {
                closed.acquire().await.unwrap().forget();
            }
            request
        }
    }));
    let mut first = task::spawn(caller.call("first".into()));
    assert_pending!(first.poll());
    for n in 0..100 {
        let reply = deadline(caller.call(n.to_string())).await.unwrap();
        assert_eq!(reply, n.to_string());
    }
    gate.add_permits(1);
    assert_eq!(deadline(first).await.unwrap(), "first");
}

#[tokio::test]
async fn no_more_requests_are_handled_at_a_time_than_allowed() {
    let (caller, responder) = pair();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    tokio::spawn(responder.concurrency(3).run(move |request: String| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            request
        }
    }));
    let calls = (0..50).map(|n| caller.call(n.to_string()));
    for (n, reply) in deadline(join_all(calls)).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), n.to_string());
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_its_handler() {
    let (caller, responder) = pair();
    let (handler, was_dropped) = hanging();
    tokio::spawn(responder.run(handler));
    let limit = Duration::from_millis(30);
    let late = deadline(caller.timeout(limit).call("hang".into())).await;
    assert!(matches!(late, Err(Error::TimedOut { after }) if after == limit));
    deadline(was_dropped).await.unwrap();
    assert_eq!(deadline(caller.call("next".into())).await.unwrap(), "next");
}

#[tokio::test]
async fn a_dropped_call_ends_its_handler_and_frees_its_place() {
    let (caller, responder) = pair();
    let (handler, was_dropped) = hanging();
    tokio::spawn(responder.concurrency(1).run(handler));
    // Once the responder has been heard.
    deadline(caller.call("hello".into())).await.unwrap();
    let mut hanging = task::spawn(caller.call("hang".into()));
    assert_pending!(hanging.poll());
    let waiting = caller.call("next".into());
    drop(hanging);
    assert_eq!(deadline(waiting).await.unwrap(), "next");
    deadline(was_dropped).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_large_fails_its_call_alone() {
    let (here, there) = small(1000);
    let caller: Texts = Caller::new(here, Text).unwrap();
    tokio::spawn(
        Responder::new(there, Text)
            .run(|n: String| async move { "x".repeat(n.trim().parse().unwrap()) }),
    );
    let reply = deadline(caller.call("2000".into())).await;
    assert!(matches!(reply, Err(Error::Unsendable(_))), "{reply:?}");
    let request = deadline(caller.call(" ".repeat(2000))).await;
    assert!(matches!(request, Err(Error::Request(_))), "{request:?}");
    assert_eq!(deadline(caller.call("5".into())).await.unwrap(), "xxxxx");
}

#[tokio::test]
async fn a_body_of_another_type_fails_its_call_alone() {
    let (here, there) = Connection::pair();
    let caller: Caller<String, u8> = Caller::new(here, Json).unwrap();
    tokio::spawn(Responder::new(there, Json).run(|n: u16| async move { n }));
    let request = deadline(caller.call("1".into())).await;
    assert!(matches!(request, Err(Error::Undecodable(_))), "{request:?}");

    let (here, there) = Connection::pair();
    let caller: Caller<u16, u8> = Caller::new(here, Json).unwrap();
    tokio::spawn(Responder::new(there, Json).run(|n: u16| async move { n }));
    let reply = deadline(caller.call(300)).await;
    assert!(matches!(reply, Err(Error::Reply(_))), "{reply:?}");
    assert_eq!(deadline(caller.call(3)).await.unwrap(), 3);
}

#[tokio::test]
async fn another_version_or_codec_is_named_to_every_call() {
    let (here, there) = Connection::pair();
    let caller: Texts = Caller::new(here, Text).unwrap();
    let (mut sender, _receiver) = there.into_split();
    sender.send("\0AQCL\x02and more".into()).await.unwrap();
    for _ in 0..2 {
        let error = deadline(caller.call("1".into())).await.unwrap_err();
        assert!(matches!(error, Error::Version { theirs: 2 }), "{error:?}");
    }

    let (here, there) = Connection::pair();
    let caller: Texts = Caller::new(here, Text).unwrap();
    let responder = tokio::spawn(Responder::new(there, Json).run(|n: String| async move { n }));
    let here = deadline(caller.call("1".into())).await.unwrap_err();
    let there = deadline(responder).await.unwrap().unwrap_err();
    for error in [here, there] {
        assert!(matches!(error, Error::Codec { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_named() {
    let (here, there) = Connection::pair();
    let caller: Texts = Caller::new(here, Text).unwrap();
    let (mut sender, _receiver) = there.into_split();
    sender.send("220 mail ready\r\n".into()).await.unwrap();
    let error = deadline(caller.call("1".into())).await.unwrap_err();
    assert!(
        error.to_string().contains("220 mail ready\\r\\n"),
        "{error}"
    );

    let (here, there) = Connection::pair();
    let responder = Responder::new(there, Text).run(|n: String| async move { n });
    let (mut sender, _receiver) = here.into_split();
    sender.send("GET / HTTP/1.1".into()).await.unwrap();
    let error = deadline(responder).await.unwrap_err();
    assert!(error.to_string().contains("GET / HTTP/1.1"), "{error}");
}

#[tokio::test]
async fn lines_cannot_carry_calls() {
    let (here, there) = UnixStream::pair().unwrap();
    let lines = |io| Connection::from_io(io, Framing::lines());
    let caller = Caller::<String, String>::new(lines(here), Text);
    assert!(matches!(caller, Err(Error::Framing)));
    let responder = Responder::new(lines(there), Text).run(|n: String| async move { n });
    assert!(matches!(deadline(responder).await, Err(Error::Framing)));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("tcp://{}?frame=lines", listener.local_addr().unwrap());
    let mut options = Options::new();
    options.reconnect(Reconnect::new());
    let connection = deadline(options.connect(&at.parse().unwrap())).await;
    let caller = Caller::<String, String>::new(connection.unwrap(), Text);
    assert!(matches!(caller, Err(Error::Framing)), "{caller:?}");
}

#[test]
fn a_caller_outside_a_runtime_is_an_error() {
    let (here, _there) = Connection::pair();
    let caller = Caller::<String, String>::new(here, Text);
    assert!(matches!(caller, Err(Error::NoRuntime)));
}

#[tokio::test]
async fn a_responder_that_stops_answers_what_it_has_taken() {
    let (caller, responder) = pair();
    let (stop, stopped) = oneshot::channel::<()>();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let responder = responder.until(async {
        let _ = stopped.await;
    });
    let running = tokio::spawn(responder.run(move |request: String| {
        let closed = Arc::clone(&closed);
        async move {
            if request == "slow" {
                closed.acquire().await.unwrap().forget();
            }
            request
        }
    }));
    deadline(caller.call("hello".into())).await.unwrap();
    let slow = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("slow".into()).await }
    });
    deadline(caller.call("behind it".into())).await.unwrap();
    stop.send(()).unwrap();
    let refused = deadline(caller.call("late".into())).await;
    assert!(matches!(refused, Err(Error::Stopping)), "{refused:?}");
    gate.add_permits(1);
    assert_eq!(deadline(slow).await.unwrap().unwrap(), "slow");
    deadline(running).await.unwrap().unwrap();
    let after = deadline(caller.call("after".into())).await;
    assert!(matches!(after, Err(Error::Ended { .. })), "{after:?}");
}

#[tokio::test]
async fn the_last_caller_that_is_dropped_ends_the_responder() {
    let (caller, responder) = pair();
    let running = tokio::spawn(responder.run(|request: String| async move { request }));
    let clone = caller.clone();
    drop(caller);
    assert_eq!(deadline(clone.call("on".into())).await.unwrap(), "on");
    drop(clone);
    deadline(running).await.unwrap().unwrap();
}

const SERVER: &str = "call::hanging_server";

/// A responder in a process of its own, which replies to "pid" and to nothing else.
#[test]
fn hanging_server() {
    if !is_peer(SERVER) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let address: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
        let mut listener = address.bind().await.unwrap();
        println!("\nat {}", listener.local_endpoint());
        let connection = listener.accept().await.unwrap().unwrap();
        let responder = Responder::new(connection, Text).run(|request: String| async move {
            if request != "pid" {
                std::future::pending::<()>().await;
            }
            std::process::id().to_string()
        });
        let _ = responder.await;
    });
}

#[tokio::test]
async fn a_killed_server_ends_all_open_calls_with_one_error() {
    let mut server = Peer::spawn(peer_command(SERVER).stdout(Stdio::piped()));
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let mut addresses = lines.map_while(Result::ok).filter_map(|line| {
        let address = line.strip_prefix("at ")?;
        address.parse::<Endpoint>().ok()
    });
    let connection = addresses.next().unwrap().connect().await.unwrap();
    let caller: Texts = Caller::new(connection, Text).unwrap();
    let pid = deadline(caller.call("pid".into())).await.unwrap();
    assert_eq!(pid, server.0.id().to_string());
    let mut calls: Vec<_> = (0..5)
        .map(|n| task::spawn(caller.call(n.to_string())))
        .collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    server.kill();
    let mut errors = Vec::new();
    for call in calls {
        let error = deadline(call).await.unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error:?}");
        errors.push(error.to_string());
    }
    errors.dedup();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let after = deadline(caller.call("after".into())).await.unwrap_err();
    assert_eq!(after.to_string(), errors[0]);
}

async fn calls(client: Connection, server: Connection, what: &str) {
    tokio::spawn(Responder::new(server, Text).run(|n: String| async move { n + "!" }));
    let caller: Texts = Caller::new(client, Text).unwrap();
    // Ids and limits of all bytes.
    for n in 0..300 {
        let reply = deadline(caller.call(format!("{n}"))).await;
        assert_eq!(reply.unwrap(), format!("{n}!"), "{what}");
    }
}

#[tokio::test]
async fn calls_work_over_each_two_way_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    for address in [
        format!("unix:{path}/stream"),
        format!("unixpacket:{path}/packet"),
        "tcp://127.0.0.1:0".to_owned(),
    ] {
        let mut listener = address.parse::<Endpoint>().unwrap().bind().await.unwrap();
        let client = listener.local_endpoint().clone();
        let (client, server) = tokio::join!(client.connect(), listener.accept());
        calls(client.unwrap(), server.unwrap().unwrap(), &address).await;
    }
}

#[tokio::test]
async fn calls_work_over_two_one_way_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let queue = format!("mq:/aqueduct-test-call-{}", std::process::id());
    for (there, back) in [
        (format!("fifo:{path}/there"), format!("fifo:{path}/back")),
        (format!("{queue}-there"), format!("{queue}-back")),
    ] {
        let (there, back): (Endpoint, Endpoint) = (there.parse().unwrap(), back.parse().unwrap());
        let mut clients = Options::new().accept_pairs(there.clone(), back.clone());
        let options = Options::new();
        let serving = tokio::spawn(async move {
            let connection = clients.next().await.unwrap().unwrap();
            Responder::new(connection, Text)
                .run(|n: String| async move { n + "!" })
                .await
        });
        let client = deadline(options.connect_pair(&there, &back)).await.unwrap();
        let caller: Texts = Caller::new(client, Text).unwrap();
        for n in 0..300 {
            let reply = deadline(caller.call(format!("{n}"))).await;
            assert_eq!(reply.unwrap(), format!("{n}!"), "{there}");
        }
        drop(caller);
        deadline(serving).await.unwrap().unwrap();
        for address in [there, back] {
            deadline(address.remove()).await.unwrap();
        }
    }
}

/// A caller that breaks the rules: it waits for no answer, and reads none.
#[tokio::test]
async fn a_responder_reads_no_further_than_its_answers_are_taken() {
    const MANY: u64 = 10_000;
    let hello = Bytes::from_static(b"\0AQCL\x01\0\0\0\0text");
    let requests = (0..MANY).map(|id| {
        let body = [&[1][..], &id.to_be_bytes(), &[0; 4], b"not UTF-8: \xff"];
        Bytes::from(body.concat())
    });
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let frames = std::iter::once(hello).chain(requests).map(move |frame| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(frame)
    });
    let frames = stream::iter(frames).chain(stream::pending());
    // It has room for the responder's hello.
    let (answers, _unread) = mpsc::channel(1);
    let answers = PollSender::new(answers).sink_map_err(|_| io::ErrorKind::BrokenPipe.into());
    let connection = Connection::from_frames(answers, frames, 1 << 10);
    let responder = Responder::new(connection, Text).concurrency(8);
    let mut running = task::spawn(responder.run(|request: String| async move { request }));
    assert_pending!(running.poll());
    while running.is_woken() {
        tokio::task::yield_now().await;
        assert_pending!(running.poll());
    }
    let read = read.load(Ordering::Relaxed);
    assert!(read <= 20, "{read} requests are kept in memory");
}

#[test]
fn open_calls_end_with_the_runtime_of_their_caller() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (caller, responder) = {
        let _inside = runtime.enter();
        pair()
    };
    let (handler, _) = hanging();
    runtime.spawn(responder.run(handler));
    let echoed = runtime.block_on(caller.call("on".into())).unwrap();
    assert_eq!(echoed, "on");
    let mut open = task::spawn(caller.call("hang".into()));
    assert_pending!(open.poll());
    drop(runtime);
    assert!(open.is_woken());
    let error = assert_ready!(open.poll()).unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error:?}");
    drop(open);
    let mut late = task::spawn(caller.call("late".into()));
    assert!(assert_ready!(late.poll()).is_err());
}

/// It used to wait for room for ever: the peer reads nothing, but has not closed its end.
#[tokio::test]
async fn a_call_that_cannot_be_sent_ends_with_the_connection() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut reading, mut writing) = there.into_split();
    let hello = b"\0\0\0\x0e\0AQCL\x01\0\0\0\x08text";
    writing.write_all(hello).await.unwrap();
    let caller: Texts = Caller::new(Connection::from_io(here, Framing::length()), Text).unwrap();
    let mut call = task::spawn(caller.call("x".repeat(1_000_000)));
    let begun = async {
        let mut begin = [0; 4096];
        tokio::select! {
            read = reading.read_exact(&mut begin) => drop(read.unwrap()),
            ended = &mut call => panic!("{ended:?}"),
        }
    };
    deadline(begun).await;
    writing.shutdown().await.unwrap();
    let error = deadline(call).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error:?}");
}
