//! Code moves over from Tokio by changing its import: one body, compiled with each of the two.

macro_rules! suite {
    ($pipe:path) => {
        use std::fs::File;
        use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
        use std::os::fd::{AsFd, AsRawFd, OwnedFd};
        use std::panic::{RefUnwindSafe, UnwindSafe};
        use std::path::Path;

        use bytes::BytesMut;
        use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
        use tokio_test::{assert_pending, assert_ready_ok, task};
        use $pipe as pipe;

        use crate::pipe::{Fifo, raw_reader, raw_writer};
        use crate::support::{deadline, woken};

        fn would_block<T>(result: io::Result<T>) -> bool {
            matches!(result, Err(e) if e.kind() == ErrorKind::WouldBlock)
        }

        #[tokio::test]
        async fn bytes_go_through_and_end() {
            deadline(async {
                let (mut tx, mut rx) = pipe::pipe()?;
                tx.write_all(b"hello ").await?;
                tx.write_all(b"world").await?;
                tx.flush().await?;
                tx.shutdown().await?;
                drop(tx);
                let mut all = String::new();
                rx.read_to_string(&mut all).await?;
                assert_eq!(all, "hello world");
                assert_eq!(rx.read(&mut [0; 4]).await?, 0);
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn readiness_and_tries_of_the_receiver() {
            deadline(async {
                let (mut tx, rx) = pipe::pipe()?;
                let mut waiting = task::spawn(rx.readable());
                assert_pending!(waiting.poll());
                assert!(would_block(rx.try_read(&mut [0; 4])));
                assert!(would_block(
                    rx.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 4])])
                ));
                assert!(would_block(rx.try_read_buf(&mut BytesMut::new())));
                assert!(would_block(rx.try_io(|| Ok(()))));

                tx.write_all(b"0123456789").await?;
                woken(&waiting).await;
                assert_ready_ok!(waiting.poll());
                assert!(rx.ready(Interest::READABLE).await?.is_readable());
                std::future::poll_fn(|cx| rx.poll_read_ready(cx)).await?;

                let mut buf = [0; 4];
                assert_eq!(rx.try_read(&mut buf)?, 4);
                assert_eq!(&buf, b"0123");
                let (mut one, mut two) = ([0; 1], [0; 2]);
                let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                assert_eq!(rx.try_read_vectored(bufs)?, 3);
                assert_eq!((&one, &two), (b"4", b"56"));
                let mut rest = BytesMut::with_capacity(2);
                let room = rest.capacity();
                assert_eq!(rx.try_read_buf(&mut rest)?, room.min(3));
                let mut tail = Vec::with_capacity(8);
                if rest.len() < 3 {
                    rx.try_read_buf(&mut tail)?;
                }
                assert_eq!([&rest[..], &tail].concat(), b"789");
                assert!(would_block(rx.try_read(&mut buf)));

                drop(tx);
                let ready = rx.ready(Interest::READABLE).await?;
                assert!(ready.is_read_closed());
                assert_eq!(rx.try_read(&mut buf)?, 0);
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn try_io_of_either_end_clears_readiness_when_told() {
            deadline(async {
                let (tx, rx) = pipe::pipe()?;
                tx.writable().await?;
                let n = tx.try_io(|| Ok(nix::unistd::write(&tx, b"abc")?))?;
                assert_eq!(n, 3);
                rx.readable().await?;
                let mut buf = [0; 8];
                let n = rx.try_io(|| Ok(nix::unistd::read(&rx, &mut buf)?))?;
                assert_eq!(&buf[..n], b"abc");

                assert!(would_block(rx.try_io(|| Ok(nix::unistd::read(&rx, &mut buf)?))));
                assert_pending!(task::spawn(rx.readable()).poll());
                let blocked: io::Result<()> = tx.try_io(|| Err(ErrorKind::WouldBlock.into()));
                assert!(would_block(blocked));
                assert_pending!(task::spawn(tx.writable()).poll());
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn readiness_and_tries_of_the_sender() {
            deadline(async {
                let (tx, rx) = pipe::pipe()?;
                assert!(tx.ready(Interest::WRITABLE).await?.is_writable());
                tx.writable().await?;
                std::future::poll_fn(|cx| tx.poll_write_ready(cx)).await?;
                assert_eq!(tx.try_write(b"ab")?, 2);
                assert_eq!(
                    tx.try_write_vectored(&[IoSlice::new(b"c"), IoSlice::new(b"de")])?,
                    3
                );
                rx.readable().await?;
                let mut buf = [0; 8];
                assert_eq!(rx.try_read(&mut buf)?, 5);
                assert_eq!(&buf[..5], b"abcde");

                while tx.try_write(&[0; 4096]).is_ok() {}
                let mut waiting = task::spawn(tx.writable());
                assert_pending!(waiting.poll());
                let mut page = vec![0; 65536];
                rx.readable().await?;
                rx.try_read(&mut page)?;
                woken(&waiting).await;
                assert_ready_ok!(waiting.poll());
                drop(waiting);

                drop(rx);
                while !tx.ready(Interest::WRITABLE).await?.is_write_closed() {
                    let _ = tx.try_write(&[0; 4096]);
                    tokio::task::yield_now().await;
                }
                assert_eq!(tx.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn vectored_writes_are_announced_and_kept_in_order() {
            deadline(async {
                let (mut tx, mut rx) = pipe::pipe()?;
                assert!(tx.is_write_vectored());
                let n = tx
                    .write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")])
                    .await?;
                assert_eq!(n, 7);
                let mut buf = [0; 7];
                rx.read_exact(&mut buf).await?;
                assert_eq!(&buf, b"one two");
                // More slices than the kernel takes in one call.
                let many: Vec<_> = (0..1500).map(|_| IoSlice::new(b"z")).collect();
                let n = tx.write_vectored(&many).await?;
                assert!((1..=1500).contains(&n));
                rx.read_exact(&mut vec![0; n]).await?;
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn ends_from_files_and_descriptors() {
            deadline(async {
                let (reader, writer) = io::pipe()?;
                let mut tx = pipe::Sender::from_file(File::from(OwnedFd::from(writer)))?;
                let mut rx = pipe::Receiver::from_file(File::from(OwnedFd::from(reader)))?;
                tx.write_all(b"ab").await?;
                rx.read_exact(&mut [0; 2]).await?;

                let mut tx = pipe::Sender::from_owned_fd(tx.into_blocking_fd()?)?;
                let mut rx = pipe::Receiver::from_owned_fd(rx.into_blocking_fd()?)?;
                tx.write_all(b"cd").await?;
                rx.read_exact(&mut [0; 2]).await?;

                let tx = tx.into_nonblocking_fd()?;
                let rx = rx.into_nonblocking_fd()?;
                let mut tx = pipe::Sender::from_owned_fd_unchecked(tx)?;
                let mut rx = pipe::Receiver::from_owned_fd_unchecked(rx)?;
                tx.write_all(b"ef").await?;
                rx.read_exact(&mut [0; 2]).await?;

                let tx = File::from(tx.into_nonblocking_fd()?);
                let rx = File::from(rx.into_nonblocking_fd()?);
                let mut tx = pipe::Sender::from_file_unchecked(tx)?;
                let mut rx = pipe::Receiver::from_file_unchecked(rx)?;
                tx.write_all(b"gh").await?;
                rx.read_exact(&mut [0; 2]).await?;
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn descriptors_come_back_in_the_mode_asked_for() {
            deadline(async {
                let (tx, rx) = pipe::pipe()?;
                let mut tx = File::from(tx.into_blocking_fd()?);
                tx.write_all(b"blocking")?;
                let mut rx = File::from(rx.into_nonblocking_fd()?);
                let mut buf = [0; 16];
                assert_eq!(rx.read(&mut buf)?, 8);
                assert!(would_block(rx.read(&mut buf)));
                assert!(!crate::support::is_nonblocking(&tx)?);
                assert!(crate::support::is_nonblocking(&rx)?);
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn fifos_open_by_path() {
            deadline(async {
                let fifo = Fifo::new();
                let refused = pipe::OpenOptions::new().open_sender(&fifo).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));

                let mut rx = pipe::OpenOptions::new().open_receiver::<&Path>(fifo.as_ref())?;
                let mut tx = pipe::OpenOptions::new().open_sender::<&Path>(fifo.as_ref())?;
                tx.write_all(b"one").await?;
                rx.read_exact(&mut [0; 3]).await?;
                drop((tx, rx));

                let mut options = pipe::OpenOptions::default();
                options.read_write(true).unchecked(true);
                let mut tx = options.clone().open_sender(&fifo)?;
                let mut rx = options.open_receiver(&fifo)?;
                tx.write_all(b"two").await?;
                rx.read_exact(&mut [0; 3]).await?;
                drop(tx);
                let mut buf = [0; 1];
                assert_pending!(task::spawn(rx.read(&mut buf)).poll());
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn either_end_works_with_a_plain_file_on_the_other() {
            deadline(async {
                let fifo = Fifo::new();
                let mut rx = pipe::OpenOptions::new().open_receiver(&fifo)?;
                raw_writer(&fifo).write_all(b"abc")?;
                let mut all = Vec::new();
                rx.read_to_end(&mut all).await?;
                assert_eq!(all, b"abc");
                drop(rx);

                let mut plain = raw_reader(&fifo);
                let mut tx = pipe::OpenOptions::new().open_sender(&fifo)?;
                tx.write_all(b"def").await?;
                let mut buf = [0; 8];
                assert_eq!(plain.read(&mut buf)?, 3);
                Ok::<(), io::Error>(())
            })
            .await
            .unwrap();
        }

        #[tokio::test]
        async fn what_is_no_pipe_or_the_wrong_end_is_invalid_input() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            File::create(&path).unwrap();
            let kinds = [
                pipe::OpenOptions::new().open_receiver(&path).unwrap_err(),
                pipe::OpenOptions::new().open_sender(&path).unwrap_err(),
                pipe::Receiver::from_file(File::open(&path).unwrap()).unwrap_err(),
                pipe::Receiver::from_owned_fd(io::pipe().unwrap().1.into()).unwrap_err(),
                pipe::Sender::from_owned_fd(io::pipe().unwrap().0.into()).unwrap_err(),
            ]
            .map(|error| error.kind());
            assert_eq!(kinds, [ErrorKind::InvalidInput; 5]);
        }

        #[tokio::test]
        async fn descriptors_can_be_borrowed_and_ends_printed() {
            let (tx, rx) = pipe::pipe().unwrap();
            assert_eq!(tx.as_fd().as_raw_fd(), tx.as_raw_fd());
            assert_eq!(rx.as_fd().as_raw_fd(), rx.as_raw_fd());
            assert!(format!("{tx:?}").contains("Sender"));
            assert!(format!("{rx:?}").contains("Receiver"));
            assert!(format!("{:?}", pipe::OpenOptions::new()).contains("OpenOptions"));
        }

        #[test]
        fn ends_can_move_between_threads_and_be_shared() {
            fn check<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
            check::<pipe::Sender>();
            check::<pipe::Receiver>();
            check::<pipe::OpenOptions>();
        }
    };
}

mod with_tokio {
    suite!(tokio::net::unix::pipe);
}

mod with_aqueduct {
    suite!(aqueduct::pipe);
}
