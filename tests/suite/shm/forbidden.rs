//! System calls that a sandbox or an old kernel refuses, by seccomp(2) filters on threads.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use aqueduct::OpenErrorKind;
use aqueduct::bytes::Bytes;
use aqueduct::connect::Connection;
use aqueduct::shm::PeerError;
use futures_util::{SinkExt, StreamExt};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{accept, place, raw, refusal, serves};
use crate::support::deadline;

/// Has a system call fail on this thread from now on, if one of these bits of an argument is set.
#[allow(unsafe_code)]
fn forbid(call: i64, argument: u32, bits: u32, errno: i32) {
    use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};

    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("a code"),
        jt,
        jf,
        k,
    };
    let call = u32::try_from(call).expect("a number");
    let errno = u32::try_from(errno).expect("a number");
    // `struct seccomp_data`: the number, the architecture, the address, then six arguments.
    let place = 16 + 8 * argument;
    let mut program = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, call),
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, place),
        step(BPF_ALU | BPF_AND | BPF_K, 0, 0, bits),
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, bits),
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set_no_new_privs().expect("it is set");
    // SAFETY: the kernel reads the program, which lives through the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

fn forbid_memory(errno: i32) {
    forbid(libc::SYS_memfd_create, 0, 0, errno);
}

/// Runs a side on a thread where something is forbidden.
fn on_a_thread<T: Send + 'static>(
    forbidden: impl FnOnce() + Send + 'static,
    side: impl AsyncFnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        let runtime = crate::actor::runtime();
        forbidden();
        runtime.block_on(deadline(side()))
    })
}

const REFUSALS: [i32; 2] = [libc::EPERM, libc::ENOSYS];

#[tokio::test]
async fn a_client_without_memfd_create_fails_and_says_what_to_do() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    for errno in REFUSALS {
        let to = address.clone();
        let client = on_a_thread(
            move || forbid_memory(errno),
            async move || to.connect().await.map(drop),
        );
        let error = client.join().expect("no panic").expect_err("no memory");
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
        let text = error.to_string();
        for word in ["memfd_create", "fallback=true", "shm:"] {
            assert!(text.contains(word), "{text}");
        }
        drop(accept(&mut listener).await);
        serves(&address, &mut listener).await;
    }
}

#[tokio::test]
async fn a_server_without_memfd_create_tells_both_sides() {
    for errno in REFUSALS {
        let (_dir, _, address) = place("");
        let at = address.clone();
        let (ready, bound) = tokio::sync::oneshot::channel();
        let server = on_a_thread(
            move || forbid_memory(errno),
            async move || {
                let mut listener = at.bind().await.expect("it is bound");
                ready.send(()).expect("it is waited for");
                next_error(accept(&mut listener).await).await
            },
        );
        deadline(bound).await.expect("it is bound");
        let client = address.connect().await.expect("it connects");
        let error = next_error(client).await;
        let told = PeerError::NoMemory("the peer");
        assert_eq!(PeerError::of(&error), Some(&told));
        let error = server.join().expect("no panic");
        assert_eq!(error.raw_os_error(), Some(errno), "{error:?}");
    }
}

async fn next_error(connection: Connection) -> std::io::Error {
    let next = deadline(connection.into_receiver().next()).await;
    next.expect("an error and no end").expect_err("an error")
}

/// Sends one message each way.
async fn talk(connection: Connection) {
    let (mut sink, mut stream) = connection.into_frames();
    sink.send(Bytes::from("hello")).await.expect("it is sent");
    let hello = stream.next().await.expect("a message");
    assert_eq!(hello.expect("it is whole"), "hello");
}

#[tokio::test]
async fn with_fallback_either_side_may_lack_memfd_create() {
    for errno in REFUSALS {
        for forbids in [[true, false], [false, true], [true, true]] {
            let (_dir, _, address) = place("?fallback=true");
            let [client, server] = forbids.map(|forbids| {
                move || {
                    if forbids {
                        forbid_memory(errno);
                    }
                }
            });
            let at = address.clone();
            let (ready, bound) = tokio::sync::oneshot::channel();
            let server = on_a_thread(server, async move || {
                let mut listener = at.bind().await.expect("it is bound");
                ready.send(()).expect("it is waited for");
                talk(accept(&mut listener).await).await;
            });
            deadline(bound).await.expect("it is bound");
            let client = on_a_thread(client, async move || {
                talk(address.connect().await.expect("it connects")).await;
            });
            client.join().expect("the client talks");
            server.join().expect("the server talks");
        }
    }
}

/// What a client writes before it knows that there is no memory may be all that it has to say.
#[tokio::test]
async fn a_request_that_falls_back_is_answered() {
    let (_dir, _, address) = place("?fallback=true");
    let at = address.clone();
    let (ready, bound) = tokio::sync::oneshot::channel();
    let server = on_a_thread(
        || forbid_memory(libc::EPERM),
        async move || {
            let mut listener = at.bind().await.expect("it is bound");
            ready.send(()).expect("it is waited for");
            let (mut sink, mut stream) = accept(&mut listener).await.into_frames();
            let asked = stream
                .next()
                .await
                .expect("a request")
                .expect("it is whole");
            sink.send(asked).await.expect("it is sent");
        },
    );
    deadline(bound).await.expect("it is bound");
    deadline(talk(address.connect().await.expect("it connects"))).await;
    server.join().expect("the server answers");
}

/// Before Linux 6.3 memfd_create(2) knows no `MFD_NOEXEC_SEAL`.
#[tokio::test]
async fn memory_is_made_without_the_flags_of_newer_kernels() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let old = || {
        let flag = libc::MFD_NOEXEC_SEAL;
        forbid(libc::SYS_memfd_create, 1, flag, libc::EINVAL);
    };
    let client = on_a_thread(old, async move || {
        talk(address.connect().await.expect("it connects")).await;
    });
    talk(accept(&mut listener).await).await;
    client.join().expect("the client talks");
}

/// How many descriptors this process may have and its user may have in flight.
fn limit_descriptors(to: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, to.min(hard), hard).expect("it is set");
}

/// Descriptors that wait to be received count for the user, and `RLIMIT_NOFILE` is the limit (unix(7)).
#[test]
fn too_many_descriptors_in_flight_are_an_error_that_says_so() {
    const TEST: &str = "shm::forbidden::too_many_descriptors_in_flight_are_an_error_that_says_so";
    crate::support::alone(TEST, || {
        crate::actor::become_nobody();
        let (from, _to) = UnixStream::pair().expect("sockets");
        for _ in 0..100 {
            raw::send(&from, b"x", &[from.as_raw_fd()]).expect("it is sent");
        }
        let (short, enough) = (|| limit_descriptors(64), || limit_descriptors(1024));
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            short();
            let error = address.connect().await.expect_err("no memory is passed");
            assert_eq!(error.kind(), &OpenErrorKind::LimitReached, "{error}");
            let text = error.to_string();
            for word in ["RLIMIT_NOFILE", "fallback=true", "shm:"] {
                assert!(text.contains(word), "{text}");
            }
            // Of that first attempt.
            assert_eq!(
                refusal(accept(&mut listener).await).await,
                PeerError::NoMemory("the peer")
            );

            enough();
            let client = address.connect().await.expect("it connects");
            short();
            assert_eq!(
                refusal(accept(&mut listener).await).await,
                PeerError::InFlight
            );
            assert_eq!(refusal(client).await, PeerError::NoMemory("the peer"));
            enough();
            serves(&address, &mut listener).await;

            for client_short in [true, false] {
                let (_dir, _, address) = place("?fallback=true");
                let mut listener = address.bind().await.expect("it is bound");
                let limit = |is_short| if is_short { short() } else { enough() };
                limit(client_short);
                let client = address.connect().await.expect("it goes on");
                limit(!client_short);
                let server = accept(&mut listener).await;
                deadline(async { tokio::join!(talk(client), talk(server)) }).await;
            }
        });
    });
}
