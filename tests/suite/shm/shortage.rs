//! Where the system gives no memory or no descriptors.

use aqueduct::connect::Options;
use aqueduct::shm::PeerError;
use aqueduct::{OpenErrorKind, bytes::Bytes};
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{accept, place, serves};
use crate::support::{alone, deadline};

/// Makes memfd_create(2) useless for this process: no file may have a byte.
fn forbid_memory() {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, 0, hard).expect("it is set");
}

fn allow_memory() {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("it is set");
}

#[test]
fn memory_beyond_the_file_size_limit_is_an_error_and_no_signal() {
    const TEST: &str = "shm::shortage::memory_beyond_the_file_size_limit_is_an_error_and_no_signal";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            forbid_memory();
            let error = address.connect().await.expect_err("no memory");
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
            let text = error.to_string();
            assert!(
                text.contains("fallback=true") && text.contains("shm:"),
                "{text}"
            );
            // The client has memory, the server has none.
            allow_memory();
            let mut client = address
                .connect()
                .await
                .expect("it connects")
                .into_receiver();
            forbid_memory();
            // Of that first attempt.
            drop(accept(&mut listener).await);
            let mut server = accept(&mut listener).await.into_receiver();
            let error = deadline(server.next())
                .await
                .expect("no end")
                .expect_err("no memory");
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error:?}");
            let error = deadline(client.next())
                .await
                .expect("no end")
                .expect_err("no memory");
            assert_eq!(
                PeerError::of(&error),
                Some(&PeerError::NoMemory("the peer"))
            );
            allow_memory();
            serves(&address, &mut listener).await;
        });
    });
}

#[test]
fn with_fallback_the_same_connection_goes_on_over_the_socket() {
    const TEST: &str = "shm::shortage::with_fallback_the_same_connection_goes_on_over_the_socket";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            // Which side has memory: the other one has none.
            for (client_has, server_has) in [(false, true), (true, false), (false, false)] {
                let (_dir, _, address) = place("?fallback=true");
                let mut listener = address.bind().await.expect("it is bound");
                let allow = |it| if it { allow_memory() } else { forbid_memory() };
                allow(client_has);
                let (mut to, mut from) =
                    address.connect().await.expect("it connects").into_frames();
                allow(server_has);
                let (mut answer, mut asked) = accept(&mut listener).await.into_frames();
                let sending = async {
                    // It waits for the server's hello: nobody knows yet which way to go.
                    to.send(Bytes::from("early")).await.expect("it is sent");
                    to.send(Bytes::from(vec![5; 300_000]))
                        .await
                        .expect("it is sent");
                    to.close().await.expect("it is closed");
                };
                let receiving = async {
                    assert_eq!(
                        asked.next().await.expect("a message").expect("it is whole"),
                        "early"
                    );
                    let large = asked.next().await.expect("a message").expect("it is whole");
                    assert_eq!(large, vec![5; 300_000]);
                    assert!(asked.next().await.is_none());
                    answer.send(Bytes::from("bye")).await.expect("it is sent");
                    answer.close().await.expect("it is closed");
                };
                deadline(async { tokio::join!(sending, receiving) }).await;
                let bye = deadline(from.next())
                    .await
                    .expect("a message")
                    .expect("it is whole");
                assert_eq!(bye, "bye");
                assert!(deadline(from.next()).await.is_none());
            }
        });
    });
}

/// Closed before the server has said that it has no memory: what was written goes over the socket.
#[test]
fn a_client_that_closes_early_falls_back_without_a_loss() {
    const TEST: &str = "shm::shortage::a_client_that_closes_early_falls_back_without_a_loss";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("?fallback=true");
            let mut listener = address.bind().await.expect("it is bound");
            let mut client = address.open_sender().await.expect("it connects");
            let sending = async {
                client
                    .send(Bytes::from("last").into())
                    .await
                    .expect("it is sent");
                client.close().await.expect("it is closed");
            };
            let receiving = async {
                forbid_memory();
                let mut server = accept(&mut listener).await.into_receiver();
                let last = server
                    .next()
                    .await
                    .expect("a message")
                    .expect("it is whole");
                assert_eq!(last.body(), "last");
                assert!(server.next().await.is_none());
            };
            deadline(async { tokio::join!(sending, receiving) }).await;
        });
    });
}

#[test]
fn no_free_descriptor_is_an_error_and_leaves_nothing() {
    const TEST: &str = "shm::shortage::no_free_descriptor_is_an_error_and_leaves_nothing";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            serves(&address, &mut listener).await;
            let open = || std::fs::read_dir("/proc/self/fd").expect("/proc").count() as u64;
            // The one that reads the directory.
            let before = open() - 1;
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
            let mut options = Options::new();
            options.wait(Some(std::time::Duration::ZERO));
            let mut failed = 0;
            for more in 1..=4 {
                setrlimit(Resource::RLIMIT_NOFILE, before + more, hard).expect("it is set");
                let connected = options.connect(&address).await;
                setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("it is set");
                match connected {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), &OpenErrorKind::LimitReached, "{error}");
                        failed += 1;
                    }
                }
            }
            assert!(failed >= 3, "{failed}");
            assert_eq!(open() - 1, before);
            while let Ok(Some(connection)) =
                tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await
            {
                drop(connection.expect("a connection"));
            }
            serves(&address, &mut listener).await;
        });
    });
}
