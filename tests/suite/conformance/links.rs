//! The transports.

use std::future::Future;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};

use aqueduct::child::{Child, Command};
use aqueduct::connect::Listener;
use aqueduct::endpoint::Capabilities;
use aqueduct::{Endpoint, codec::Postcard};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::program::{Client, Side, command, options};
use crate::mq::QueueName;
use crate::support::deadline;

/// A transport under test.
pub(crate) trait Link {
    /// What its address says of it.
    fn capabilities(&self) -> Capabilities;

    /// The largest message that passes, framing not counted, if both sides are told so.
    fn limit(&self, asked: usize) -> usize {
        asked
    }

    /// Opens it with these largest frames, and starts the process at the other end.
    fn open(&self, here: usize, there: usize) -> impl Future<Output = Opened>;
}

/// An open transport.
pub(crate) struct Opened {
    pub(crate) channel: Client,
    pub(crate) peer: Other,
    /// What has to live as long: a directory, a name.
    _rest: Vec<Box<dyn Send>>,
}

/// The process at the other end; it is killed when the test lets go of it.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.0.id().expect("it was not reaped");
        kill(Pid::from_raw(pid as i32), signal).expect("it is ours");
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        deadline(self.0.wait()).await.expect("it can be waited for")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.start_kill();
    }
}

impl Opened {
    pub(crate) fn new(channel: Client, peer: Child) -> Self {
        Self {
            channel,
            peer: Other(peer),
            _rest: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, rest: impl Send + 'static) -> Self {
        self._rest.push(Box::new(rest));
        self
    }
}

fn spawn(side: &Side, max_frame: usize) -> Child {
    let command = tokio::process::Command::from(command(side, max_frame, false));
    Command::from(command).spawn().expect("it can be started")
}

pub(crate) fn endpoint(address: String) -> Endpoint {
    address.parse().expect("it is an address")
}

pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("aqueduct-test-{}-{next}", std::process::id())
}

/// Bound here, connected there.
pub(crate) struct Sockets(&'static str);

impl Sockets {
    pub(crate) fn new(scheme: &'static str) -> Self {
        Self(scheme)
    }

    pub(crate) fn address(&self, dir: &TempDir) -> Endpoint {
        let dir = dir.path().display();
        endpoint(match self.0 {
            "tcp" => "tcp://127.0.0.1:0".into(),
            scheme if scheme.ends_with('@') => format!("{scheme}{}", fresh_name()),
            scheme => format!("{scheme}:{dir}/socket"),
        })
    }
}

impl Link for Sockets {
    fn capabilities(&self) -> Capabilities {
        let dir = tempfile::tempdir().expect("a directory can be made");
        self.address(&dir).capabilities()
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let bound = options(here).bind(&self.address(&dir)).await;
        let mut listener: Listener = bound.expect("it can be bound");
        let peer = spawn(&Side::Connect(listener.local_endpoint().clone()), there);
        let accepted = deadline(listener.accept()).await.expect("somebody comes");
        let channel = accepted.expect("it is accepted").channel(Postcard);
        Opened::new(channel, peer).with(dir)
    }
}

/// The other end is a child, started by its address alone; it speaks over its standard input and
/// output.
pub(crate) struct Exec;

impl Link for Exec {
    fn capabilities(&self) -> Capabilities {
        endpoint("exec:cat".into()).capabilities()
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let side = Side::Connect(Endpoint::Stdio);
        let program = command(&side, there, true);
        // The shell puts the pipes where the test runner in the child does not print.
        let mut words = vec![
            "-c".into(),
            "exec 3<&0 4>&1 </dev/null >/dev/null && exec \"$@\"".into(),
            "sh".into(),
            std::ffi::OsString::from("env"),
        ];
        for (name, value) in program.get_envs() {
            let value = value.expect("it is set").to_string_lossy().into_owned();
            words.push(format!("{}={value}", name.to_string_lossy()).into());
        }
        words.push(program.get_program().into());
        words.extend(program.get_args().map(Into::into));
        let exec = aqueduct::endpoint::Exec::new("sh", words).expect("it is a command");
        // Through its text, as a user would give it.
        let exec = endpoint(Endpoint::from(exec).to_string());
        let mut connection = options(here).connect(&exec).await.expect("it starts");
        let child = connection.take_child().expect("it has a process");
        Opened::new(connection.channel(Postcard), child)
    }
}

/// Descriptors that both sides have inherited.
pub(crate) enum Descriptors {
    StreamSockets,
    PacketSockets,
    Pipes,
}

/// Makes a descriptor look like an inherited one, and tells its address.
pub(crate) fn inherited(fd: impl Into<OwnedFd>) -> Endpoint {
    let fd = fd.into();
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("it is open");
    endpoint(format!("fd:{}", fd.into_raw_fd()))
}

/// Starts the program with these descriptors as its 3 and 4.
fn spawn_with(
    side: &Side,
    max_frame: usize,
    stdio: bool,
    three: OwnedFd,
    four: Option<OwnedFd>,
) -> Child {
    let command = tokio::process::Command::from(command(side, max_frame, stdio));
    let mut command = Command::from(command);
    command.pass(3, three);
    if let Some(four) = four {
        command.pass(4, four);
    }
    command.spawn().expect("it can be started")
}

/// Two pipes: our ends as addresses, and the other side's two ends.
fn pipes() -> (Side, OwnedFd, OwnedFd) {
    let (their_input, our_output) = std::io::pipe().expect("pipes can be made");
    let (our_input, their_output) = std::io::pipe().expect("pipes can be made");
    let side = Side::Pair {
        send: inherited(our_output),
        receive: inherited(our_input),
    };
    (side, their_input.into(), their_output.into())
}

impl Link for Descriptors {
    fn capabilities(&self) -> Capabilities {
        // Of the descriptor only opening tells; these are of the same kinds.
        endpoint(match self {
            Self::StreamSockets => "unix:@x".into(),
            Self::PacketSockets => "unixpacket:@x".into(),
            Self::Pipes => "fifo:/x".to_owned(),
        })
        .capabilities()
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let three = || endpoint("fd:3".into());
        let (side, peer) = match self {
            Self::StreamSockets => {
                let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
                let peer = spawn_with(&Side::Connect(three()), there, false, theirs.into(), None);
                (Side::Connect(inherited(ours)), peer)
            }
            Self::PacketSockets => {
                let kind = socket2::Type::SEQPACKET;
                let pair = socket2::Socket::pair(socket2::Domain::UNIX, kind, None);
                let (ours, theirs) = pair.expect("sockets can be made");
                let side = Side::Connect(three());
                let peer = spawn_with(&side, there, false, theirs.into(), None);
                (Side::Connect(inherited(ours)), peer)
            }
            Self::Pipes => {
                let (side, input, output) = pipes();
                let theirs = Side::Pair {
                    send: endpoint("fd:4".into()),
                    receive: three(),
                };
                let peer = spawn_with(&theirs, there, false, input, Some(output));
                (side, peer)
            }
        };
        let channel = deadline(side.open(&options(here))).await;
        Opened::new(channel, peer)
    }
}

/// The other side's standard input and output.
pub(crate) enum StdioOver {
    Pipes,
    Socket,
}

impl Link for StdioOver {
    fn capabilities(&self) -> Capabilities {
        Endpoint::Stdio.capabilities()
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let theirs = Side::Connect(Endpoint::Stdio);
        let (side, peer) = match self {
            Self::Pipes => {
                let (side, input, output) = pipes();
                (side, spawn_with(&theirs, there, true, input, Some(output)))
            }
            Self::Socket => {
                let (ours, socket) = UnixStream::pair().expect("sockets can be made");
                let again = socket.as_fd().try_clone_to_owned();
                let again = again.expect("a descriptor is free");
                let peer = spawn_with(&theirs, there, true, socket.into(), Some(again));
                (Side::Connect(inherited(ours)), peer)
            }
        };
        let channel = deadline(side.open(&options(here))).await;
        Opened::new(channel, peer)
    }
}

/// A FIFO each way.
pub(crate) struct Fifos;

impl Link for Fifos {
    fn capabilities(&self) -> Capabilities {
        endpoint("fifo:/x".into()).capabilities()
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let fifo = |name| endpoint(format!("fifo:{}/{name}", dir.path().display()));
        let (to, from) = (fifo("to"), fifo("from"));
        let theirs = Side::Pair {
            send: from.clone(),
            receive: to.clone(),
        };
        let peer = spawn(&theirs, there);
        let ours = Side::Pair {
            send: to,
            receive: from,
        };
        let channel = deadline(ours.open(&options(here))).await;
        Opened::new(channel, peer).with(dir)
    }
}

/// A queue each way.
pub(crate) struct Queues(&'static str);

/// The largest message of the queues.
const QUEUE_MESSAGE: usize = 1024;

impl Queues {
    pub(crate) fn new(driver: &'static str) -> Self {
        Self(driver)
    }

    fn address(&self, name: &QueueName) -> Endpoint {
        let (name, driver) = (&name.0, self.0);
        endpoint(format!(
            "mq:{name}?capacity=8&max-message={QUEUE_MESSAGE}&driver={driver}"
        ))
    }
}

impl Link for Queues {
    fn capabilities(&self) -> Capabilities {
        self.address(&QueueName::new()).capabilities()
    }

    fn limit(&self, _: usize) -> usize {
        QUEUE_MESSAGE
    }

    async fn open(&self, here: usize, there: usize) -> Opened {
        let (to, from) = (QueueName::new(), QueueName::new());
        let ours = Side::Pair {
            send: self.address(&to),
            receive: self.address(&from),
        };
        let theirs = Side::Pair {
            send: self.address(&from),
            receive: self.address(&to),
        };
        let peer = spawn(&theirs, there);
        let channel = deadline(ours.open(&options(here))).await;
        Opened::new(channel, peer).with((to, from))
    }
}
