//! Cases about scheduling: other tasks, other runtimes, a runtime that has ended.

use tokio_test::{assert_pending, task};

use super::{Pair, expect, fill, message, next, send};
use crate::cpu::{busy_if, timers};
use crate::deadline;
use crate::place::Transport;

/// If another task takes over a wait, for reading or for room, that task is woken.
pub async fn handed_over(transport: &impl Transport) {
    let mut pair = Pair::open(transport).await;
    for number in 0..3 {
        let Pair { here, there, .. } = &mut pair;
        {
            let mut first = task::spawn(there.recv());
            assert_pending!(first.poll());
        }
        let mut second = task::spawn(there.recv());
        assert_pending!(second.poll());
        send(here, message(number, 50)).await;
        let came = deadline(second).await.expect("the stream goes on");
        expect(&came.expect("it is whole"), number, 50);
    }
    let size = transport.promises().limit(4900).min(4900);
    let Pair { here, there, .. } = &mut pair;
    let sent = fill(here, size).await;
    {
        let mut first = task::spawn(here.flush());
        assert_pending!(first.poll());
    }
    let second = here.flush();
    let take = async {
        for number in 0..sent {
            expect(&next(there).await, number, size);
        }
    };
    let (flushed, ()) = deadline(async { tokio::join!(second, take) }).await;
    flushed.expect("it is sent");
}

/// Four tasks on several threads use both halves of both ends at the same time.
pub async fn tasks(transport: &impl Transport) {
    const MESSAGES: usize = 1000;
    let Pair { here, there, _kept } = Pair::open(transport).await;
    let size = |number| 8 + number % 300;
    let mut tasks = tokio::task::JoinSet::new();
    for channel in [here, there] {
        let (mut sender, mut receiver) = channel.into_split();
        tasks.spawn(async move {
            for number in 0..MESSAGES {
                let fed = sender.feed(message(number, size(number))).await;
                fed.expect("it is sent");
                if number % 7 == 0 {
                    sender.flush().await.expect("it is sent");
                }
            }
            sender.flush().await.expect("it is sent");
            Some(sender)
        });
        tasks.spawn(async move {
            for number in 0..MESSAGES {
                let came = receiver.recv().await.expect("the stream goes on");
                expect(&came.expect("it is whole"), number, size(number));
            }
            None
        });
    }
    let mut senders = Vec::new();
    while let Some(done) = deadline(tasks.join_next()).await {
        senders.extend(done.expect("no task panics"));
    }
}

/// Ends that outlive the runtime they were opened on do not hang.
///
/// Pending operations end, and later ones too, with an error or normally.
pub async fn runtime_dropped(transport: &impl Transport) {
    let build = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime.expect("a runtime can be had")
    };
    let moved = std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let runtime = build();
            let idle = runtime.block_on(Pair::open(transport));
            let mut pair = runtime.block_on(Pair::open(transport));
            // A task that waits is dropped with its runtime.
            let Pair { here, there, _kept } = idle;
            runtime.spawn(async move {
                let (mut here, _there, _kept) = (here, there, _kept);
                here.recv().await
            });
            // So does one that is waited for elsewhere.
            runtime.block_on(async {
                send(&mut pair.here, message(0, 50)).await;
                expect(&next(&mut pair.there).await, 0, 50);
                assert_pending!(task::spawn(pair.there.recv()).poll());
            });
            drop(runtime);
            pair
        });
        opened.join().expect("it does not panic")
    });
    let Pair {
        mut here,
        mut there,
        _kept,
    } = moved;
    let sent = deadline(here.send(message(1, 50))).await;
    let sent_back = deadline(there.send(message(2, 50))).await;
    for (sent, channel, number) in [(sent, &mut there, 1), (sent_back, &mut here, 2)] {
        // An error, or the end, will do as well.
        if let Some(Ok(came)) = deadline(channel.recv()).await {
            sent.expect("what comes was sent");
            expect(&came, number, 50);
        }
    }
}

/// A timer of 10 ms fires within 50 ms of this thread's CPU time during a flood.
///
/// That is, beside a task whose messages never run dry, and beside one that never has to wait for
/// room.
pub async fn timer(transport: &impl Transport) {
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be had");
    for sends_here in [false, true] {
        let Pair { here, there, _kept } = Pair::open(transport).await;
        let (mut sender, _receiver) = here.into_split();
        let (_sender, mut receiver) = there.into_split();
        let size = transport.promises().limit(1000).min(1000);
        let flood = async move {
            let one = message(0, size);
            while sender.feed(one.clone()).await.is_ok() {
                busy_if(sends_here);
            }
        };
        let drain = async move {
            while receiver.recv().await.is_some_and(|it| it.is_ok()) {
                busy_if(!sends_here);
            }
        };
        // A task of its own on this thread, as a service of a program is.
        let (here, other) = if sends_here {
            (tokio::spawn(flood), elsewhere.spawn(drain))
        } else {
            (tokio::spawn(drain), elsewhere.spawn(flood))
        };
        deadline(timers()).await;
        assert!(!here.is_finished() && !other.is_finished());
        here.abort();
        other.abort();
        let _ = deadline(async { tokio::join!(here, other) }).await;
    }
    elsewhere.shutdown_background();
}
