//! A FIFO end whose peer went away and came back, and now does nothing, uses no CPU.
//!
//! Tokio remembers "closed" for ever: after a writer has gone and a silent one has come, its reader
//! is woken without end and reads `EAGAIN` each time; its writer does the same on a full FIFO with a
//! second reader. The same scenes are played with Tokio's ends too, as proof that the measure sees it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use aqueduct::pipe::OpenOptions;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe as tokio_pipe;
use tokio_test::{assert_pending, task};

use crate::pipe::{Fifo, next_read, raw_reader, raw_writer, thread_cpu};
use crate::support::{alone, deadline, woken};

/// How long an end is left alone, and the CPU time that it may use meanwhile.
const WINDOW: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_millis(10);

/// The CPU time of this thread while `waiting` waits in vain for the length of the window.
async fn cpu_while<F: Future>(window: Duration, waiting: F) -> Duration {
    let before = thread_cpu();
    let waited = tokio::time::timeout(window, waiting).await;
    assert!(waited.is_err(), "there was nothing to wait for");
    thread_cpu() - before
}

/// Lets a writer come, write and go, seen by the reader to its end; returns a silent second one.
macro_rules! silent_second_writer {
    ($receiver:expr, $fifo:expr) => {{
        raw_writer($fifo).write_all(b"abc").unwrap();
        let mut all = Vec::new();
        deadline($receiver.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"abc");
        raw_writer($fifo)
    }};
}

/// Lets a reader go, seen by the writer, and a second one come that reads nothing of a full FIFO.
macro_rules! idle_second_reader {
    ($sender:expr, $fifo:expr, $first:expr) => {{
        drop($first);
        loop {
            deadline($sender.writable()).await.unwrap();
            match $sender.try_write(b"x") {
                Err(e) if e.kind() == ErrorKind::BrokenPipe => break,
                _ => tokio::task::yield_now().await,
            }
        }
        let second = raw_reader($fifo);
        while nix::unistd::write(&$sender, &[b'x'; 4096]).is_ok() {}
        second
    }};
}

#[tokio::test]
async fn a_reader_with_a_silent_second_writer_sleeps_in_read() {
    let fifo = Fifo::new();
    let mut receiver = OpenOptions::new().open_receiver(&fifo).unwrap();
    for _ in 0..3 {
        let mut writer = silent_second_writer!(receiver, &fifo);
        let mut buf = [0; 8];
        let cpu = cpu_while(WINDOW, receiver.read(&mut buf)).await;
        assert!(
            cpu < IDLE,
            "{cpu:?} of CPU in {WINDOW:?} with nothing to do"
        );

        // It sleeps, but not too well.
        writer.write_all(b"xyz").unwrap();
        deadline(receiver.read_exact(&mut buf[..3])).await.unwrap();
        assert_eq!(&buf[..3], b"xyz");
        drop(writer);
        assert_eq!(deadline(receiver.read(&mut buf)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_reader_with_a_silent_second_writer_sleeps_in_readable() {
    let fifo = Fifo::new();
    let mut receiver = OpenOptions::new().open_receiver(&fifo).unwrap();
    let mut writer = silent_second_writer!(receiver, &fifo);
    let cpu = cpu_while(WINDOW, next_read(&receiver)).await;
    assert!(
        cpu < IDLE,
        "{cpu:?} of CPU in {WINDOW:?} with nothing to do"
    );

    writer.write_all(b"xyz").unwrap();
    assert_eq!(deadline(next_read(&receiver)).await.unwrap(), b"xyz");
    drop(writer);
    assert_eq!(deadline(next_read(&receiver)).await.unwrap(), b"");
}

#[tokio::test]
async fn a_writer_beside_an_idle_reader_of_a_full_fifo_sleeps() {
    let fifo = Fifo::new();
    let first = raw_reader(&fifo);
    let mut sender = OpenOptions::new().open_sender(&fifo).unwrap();
    let mut second = idle_second_reader!(sender, &fifo, first);
    let cpu = cpu_while(WINDOW, sender.write_all(b"more")).await;
    assert!(
        cpu < IDLE,
        "{cpu:?} of CPU in {WINDOW:?} with nothing to do"
    );

    drain(&mut second);
    deadline(sender.write_all(b"more")).await.unwrap();
    assert_eq!(drain(&mut second), b"more");
    drop(second);
    let gone = deadline(sender.write_all(b"more")).await.unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EPIPE));
}

#[tokio::test]
async fn a_writer_beside_an_idle_reader_sleeps_in_writable() {
    let fifo = Fifo::new();
    let first = raw_reader(&fifo);
    let sender = OpenOptions::new().open_sender(&fifo).unwrap();
    let mut second = idle_second_reader!(sender, &fifo, first);
    let written = async {
        loop {
            sender.writable().await.unwrap();
            if sender.try_write(b"more").is_ok() {
                break;
            }
        }
    };
    let cpu = cpu_while(WINDOW, written).await;
    assert!(
        cpu < IDLE,
        "{cpu:?} of CPU in {WINDOW:?} with nothing to do"
    );
    drain(&mut second);
    deadline(sender.writable()).await.unwrap();
    assert_eq!(sender.try_write(b"more").unwrap(), 4);
}

/// It costs a descriptor. Without one that is an error, and once there is one the end works on.
#[test]
fn without_a_free_descriptor_the_return_of_a_peer_is_emfile() {
    let name = "pipe::never_spin::without_a_free_descriptor_the_return_of_a_peer_is_emfile";
    alone(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let fifo = Fifo::new();
            let rx = OpenOptions::new().open_receiver(&fifo).unwrap();
            drop(raw_writer(&fifo));
            assert_eq!(deadline(next_read(&rx)).await.unwrap(), b"");
            let mut writer = raw_writer(&fifo);

            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let free = File::open("/dev/null").unwrap().as_raw_fd();
            setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(free).unwrap(), hard).unwrap();
            let error = deadline(rx.readable()).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();

            writer.write_all(b"hello again").unwrap();
            assert_eq!(deadline(next_read(&rx)).await.unwrap(), b"hello again");
        });
    });
}

/// The control: if this fails Tokio has learned to forget, and `Source` may be able to.
///
/// Each scene is played a few times at most: on a busy machine a thread that spins may get no turn in
/// all of one window.
#[tokio::test]
async fn tokios_own_ends_spin_in_these_scenes() {
    const TIMES: usize = 10;
    let window = Duration::from_millis(500);

    let mut cpu = Duration::ZERO;
    for _ in 0..TIMES {
        let fifo = Fifo::new();
        let mut receiver = tokio_pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let _writer = silent_second_writer!(receiver, &fifo);
        cpu = cpu_while(window, receiver.read(&mut [0; 8])).await;
        if cpu > IDLE {
            break;
        }
    }
    assert!(cpu > IDLE, "Tokio's reader used only {cpu:?} of CPU");

    for _ in 0..TIMES {
        let fifo = Fifo::new();
        let first = raw_reader(&fifo);
        let mut sender = tokio_pipe::OpenOptions::new().open_sender(&fifo).unwrap();
        let _second = idle_second_reader!(sender, &fifo, first);
        cpu = cpu_while(window, sender.write_all(b"more")).await;
        if cpu > IDLE {
            break;
        }
    }
    assert!(cpu > IDLE, "Tokio's writer used only {cpu:?} of CPU");
}

/// One registration is replaced for all of them, whoever notices first.
#[tokio::test]
async fn every_waiting_task_is_woken_across_the_peers_return() {
    let fifo = Fifo::new();
    let mut receiver = OpenOptions::new().open_receiver(&fifo).unwrap();
    for _ in 0..20 {
        let mut writer = silent_second_writer!(receiver, &fifo);
        // Otherwise what is left of the first writer's readiness would end the wait.
        assert!(receiver.try_read(&mut [0; 1]).is_err());
        let (one, two) = (&receiver, &receiver);
        let mut tasks = [
            task::spawn(one.readable()),
            task::spawn(two.readable()),
            task::spawn(one.readable()),
        ];
        for waiting in &mut tasks {
            assert_pending!(waiting.poll());
        }
        tokio::task::yield_now().await;
        writer.write_all(b"x").unwrap();
        for waiting in &mut tasks {
            woken(waiting).await;
            // A renewal in between may have it wait once more, on the fresh registration.
            deadline(async { std::future::poll_fn(|_| waiting.poll()).await })
                .await
                .unwrap();
        }
        drop(tasks);
        assert_eq!(deadline(next_read(&receiver)).await.unwrap(), b"x");
        drop(writer);
        assert_eq!(deadline(next_read(&receiver)).await.unwrap(), b"");
    }
}

/// Once a fresh registration was made with the runtime of whoever polled, and panicked or failed
/// where that was none: a waiter on an executor of another kind.
#[test]
fn a_returning_peer_is_noticed_by_a_waiter_off_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fifo = Fifo::new();
    let mut receiver = {
        let _guard = runtime.enter();
        OpenOptions::new().open_receiver(&fifo).unwrap()
    };
    let writer = runtime.block_on(async { silent_second_writer!(receiver, &fifo) });
    let receiver = Arc::new(receiver);
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn({
        let receiver = Arc::clone(&receiver);
        move || {
            let mut read = Box::pin(async { next_read(&receiver).await });
            let waker = Arc::new(Unpark(std::thread::current())).into();
            let mut cx = std::task::Context::from_waker(&waker);
            loop {
                match read.as_mut().poll(&mut cx) {
                    std::task::Poll::Ready(result) => break said.send(result),
                    std::task::Poll::Pending => std::thread::park(),
                }
            }
        }
    });
    (&writer).write_all(b"hello").unwrap();
    let result = heard.recv_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!(result.unwrap(), b"hello");
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Everything that is there, of a non-blocking file.
fn drain(reader: &mut File) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 65536];
    loop {
        match reader.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("{e}"),
        }
    }
    all
}
