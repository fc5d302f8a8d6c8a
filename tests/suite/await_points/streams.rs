use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdStream;

use aqueduct::unix;
use aqueduct_conformance::every_point;
use tokio::net::UnixStream;

use super::{NEVER, null};

#[tokio::test]
async fn stream_sockets_with_descriptors() {
    every_point(
        "unix::recv_with_fds",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            (here, (there, 0))
        },
        async |stream: &mut UnixStream| {
            let mut buf = [0; 8];
            let received = unix::recv_with_fds(stream, &mut buf, 1).await;
            received.map(|(n, fds)| (n, fds.len()))
        },
        async |(stream, sent)| {
            if *sent == 0 {
                let sent_now = unix::send_with_fds(stream, b"one", &[null()]).await;
                *sent = sent_now.expect("it is sent");
            }
        },
        async |here, (there, sent), output| {
            drop(there);
            let taken = output.map(|it| it.expect("it is read"));
            let mut buf = [0; 8];
            let left = unix::recv_with_fds(&here, &mut buf, 1).await;
            let (n, fds) = left.expect("it is read");
            let all = taken.map_or((n, fds.len()), |(m, more)| (n + m, fds.len() + more));
            assert_eq!(all, (sent, usize::from(sent > 0)));
        },
    )
    .await;
    every_point(
        "unix::send_with_fds",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            let mut filled = 0;
            while let Ok(n) = here.try_write(&[0; 4096]) {
                filled += n;
            }
            (here, (there, filled, 0))
        },
        async |stream: &mut UnixStream| unix::send_with_fds(stream, b"!", &[null()]).await,
        async |(stream, _, taken)| {
            *taken += stream.try_read(&mut [0; 65_536]).unwrap_or_default();
        },
        async |here, (there, filled, mut taken), output| {
            let expected = output.map_or(0, |it| it.expect("it is sent"));
            drop(here);
            let mut descriptors = 0;
            loop {
                let mut buf = [0; 65_536];
                let read = unix::recv_with_fds(&there, &mut buf, 1).await;
                let (n, fds) = read.expect("it is read");
                if n == 0 {
                    break;
                }
                taken += n;
                descriptors += fds.len();
            }
            assert_eq!((taken - filled, descriptors), (expected, expected));
        },
    )
    .await;
    // `unix::close` owns the stream: dropped, it is closed at once.
    every_point(
        "unix::close",
        async || {
            let (here, there) = StdStream::pair().expect("a pair");
            here.set_nonblocking(true).expect("an option");
            let here = UnixStream::from_std(here).expect("registered");
            (Some(here), Some(there))
        },
        async |stream: &mut Option<UnixStream>| {
            unix::close(stream.take().expect("it is there"), NEVER).await
        },
        async |there| drop(there.take()),
        async |_, there, _| {
            if let Some(mut there) = there {
                let end = there.read(&mut [0]);
                assert!(matches!(end, Ok(0)), "{end:?}");
                let gone = there.write(b"x").expect_err("it is closed");
                assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
            }
        },
    )
    .await;
}
