use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_test::{assert_pending, task};

use super::*;
use crate::shm::bell::SLEEPS;
use crate::shm::halves::halves;

const DEADLINE: Duration = Duration::from_secs(30);

/// Both sides of a connection, after their hellos.
async fn pair() -> (Arc<Wire>, Arc<Wire>) {
    let settings = Settings {
        capacity: START,
        fallback: false,
    };
    let (client, server) = UnixStream::pair().unwrap();
    for socket in [&client, &server] {
        socket.set_nonblocking(true).unwrap();
    }
    let client = Wire::client(client.into(), settings).unwrap();
    let server = Wire::server(server.into(), settings).unwrap();
    for side in [&server, &client] {
        let way = poll_fn(|cx| side.poll_open(Half::Read, Some(cx)));
        let way = timeout(DEADLINE, way).await.unwrap().unwrap();
        assert!(matches!(way, Way::Memory { .. }));
    }
    (client, server)
}

/// Sleeps that end at once, since there is something by now: the peer may ring all the same.
fn sleep_for_nothing(sleeper: &Wire, rings: Option<&Wire>, times: u64) {
    for epoch in 0..times {
        sleeper.store(Word::DataEpoch, 2 * epoch + 1, Ordering::Relaxed);
        if let Some(peer) = rings {
            peer.ring().unwrap();
        }
        sleeper.store(Word::DataEpoch, 2 * epoch + 2, Ordering::Relaxed);
    }
}

/// A full bell reports a ring on new kernels alone (`pipe_write` in `fs/pipe.c`).
#[tokio::test]
async fn rings_for_nothing_do_not_fill_the_bell() {
    let (here, there) = pair().await;
    let (mut reader, _writer) = halves(Arc::clone(&here));
    let (_reader, mut writer) = halves(Arc::clone(&there));
    let mut byte = [0];
    let mut reading = task::spawn(reader.read(&mut byte));
    for times in [1, 5000] {
        assert_pending!(reading.poll());
        sleep_for_nothing(&here, Some(&there), times);
        let woken = async {
            while !reading.is_woken() {
                yield_now().await;
            }
        };
        timeout(DEADLINE, woken).await.expect("it is rung for");
    }
    while reading.is_woken() {
        assert_pending!(reading.poll());
        yield_now().await;
    }
    assert_eq!(here.bells.unread(), 0);
    writer.write_all(b"x").await.unwrap();
    let read = timeout(DEADLINE, reading).await.expect("it is woken");
    assert_eq!(read.unwrap(), 1);
}

#[tokio::test]
async fn emptying_the_bell_wakes_the_other_half() {
    let (here, there) = pair().await;
    let (mut reader, mut writer) = halves(Arc::clone(&here));
    let (mut peer, _writer) = halves(Arc::clone(&there));
    let full = vec![0; START as usize];
    writer.write_all(&full).await.unwrap();
    let mut writing = task::spawn(writer.write(b"more"));
    assert_pending!(writing.poll());
    // This rings for room, which the runtime does not know of yet.
    let mut all = vec![0; START as usize];
    timeout(DEADLINE, peer.read_exact(&mut all))
        .await
        .unwrap()
        .unwrap();
    sleep_for_nothing(&here, None, SLEEPS.into());
    let mut byte = [0];
    let mut reading = task::spawn(reader.read(&mut byte));
    assert_pending!(reading.poll());
    assert!(writing.is_woken());
    assert_eq!(timeout(DEADLINE, writing).await.unwrap().unwrap(), 4);
}

/// As on kernels where a bell that is not empty wakes nobody: each half finds it empty when it sleeps.
#[tokio::test]
async fn a_bell_that_must_be_empty_is_emptied_for_each_ring() {
    let (mut here, there) = pair().await;
    Arc::get_mut(&mut here).unwrap().bells.empties = true;
    let (mut reader, mut writer) = halves(Arc::clone(&here));
    let (mut peer, mut rings) = halves(Arc::clone(&there));
    let full = vec![0; START as usize];
    writer.write_all(&full).await.unwrap();
    for _ in 0..100 {
        // Both halves sleep, one for data and one for room, and both are rung for.
        let (mut byte, mut all) = ([0], vec![0; START as usize]);
        let mut reading = task::spawn(reader.read(&mut byte));
        let mut writing = task::spawn(writer.write_all(&full));
        // Long before this many sleeps it is emptied on every kernel.
        for turn in 0.. {
            assert_pending!(reading.poll());
            assert_pending!(writing.poll());
            if here.bells.unread() == 0 {
                break;
            }
            assert!(turn < SLEEPS / 8, "it is not emptied");
            yield_now().await;
        }
        rings.write_all(b"x").await.unwrap();
        peer.read_exact(&mut all).await.unwrap();
        let woken = async { tokio::join!(reading, writing) };
        let (read, written) = timeout(DEADLINE, woken).await.expect("both are woken");
        assert_eq!((read.unwrap(), written.unwrap()), (1, ()));
    }
}
