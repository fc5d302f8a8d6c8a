//! Aqueduct's own transports, opened by their addresses alone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aqueduct::child::Child;
use aqueduct::connect::{Connection, Options};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, OpenError, inherited};
use aqueduct_conformance::{End, Far, Link, Place, Process, Promises, Side, Transport};
use tempfile::TempDir;

use crate::mq::QueueName;
use crate::support::claim;
use crate::tls::files::Authority;

pub(crate) fn endpoint(address: String) -> Endpoint {
    address.parse().expect("it is an address")
}

pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("aqueduct-test-{}-{next}", std::process::id())
}

fn options(place: &Place) -> Options {
    let mut options = Options::new();
    options.framing(Framing::length().max_frame(place.max_frame()));
    options
}

/// Both directions of a connection.
fn both(connection: Connection) -> End {
    let (sink, frames) = connection.into_frames();
    End::new(sink, frames)
}

/// Two one-way addresses. A receiver waits for nobody, so both sides get as far as the sender.
async fn one_way(options: &Options, send: &Endpoint, receive: &Endpoint) -> io::Result<End> {
    let receiver = options.open_receiver(receive).await.map_err(io_error)?;
    let sender = options.open_sender(send).await.map_err(io_error)?;
    Ok(End::new(sender.into_frames(), receiver.into_frames()))
}

fn io_error(error: OpenError) -> io::Error {
    io::Error::other(error)
}

/// The limit of those in latency mode.
const POLL_FOR: Duration = Duration::from_micros(50);

/// Bound here, connected there.
pub(crate) struct Sockets {
    scheme: &'static str,
    poll_for: Duration,
}

impl Sockets {
    pub(crate) fn new(scheme: &'static str) -> Self {
        let poll_for = Duration::ZERO;
        Self { scheme, poll_for }
    }

    pub(crate) fn in_latency_mode(self) -> Self {
        let poll_for = POLL_FOR;
        Self { poll_for, ..self }
    }

    fn options(&self, place: &Place) -> Options {
        let mut options = options(place);
        options.poll_for(self.poll_for);
        options
    }

    pub(crate) fn address(&self, dir: &TempDir) -> Endpoint {
        self.named(dir.path(), &fresh_name())
    }

    fn named(&self, dir: &Path, name: &str) -> Endpoint {
        let dir = dir.display();
        endpoint(match self.scheme {
            "tls" => format!(
                "tls://127.0.0.1:0?ca={dir}/ca.pem&cert={dir}/node.pem&client-ca={dir}/ca.pem&key={dir}/node.key"
            ),
            scheme @ ("tcp" | "udp") => format!("{scheme}://127.0.0.1:0"),
            scheme if scheme.ends_with('@') => format!("{scheme}{name}"),
            scheme => format!("{scheme}:{dir}/socket"),
        })
    }
}

impl Transport for Sockets {
    fn promises(&self) -> Promises {
        let promises = Promises::from(self.named(Path::new("/"), "x").capabilities());
        if self.scheme.starts_with("unixpacket") {
            promises.without_empty_messages()
        } else {
            promises
        }
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let told = place.dir().join("address");
        let connection = match side {
            Side::Here => {
                let address = self.named(place.dir(), place.name());
                if self.scheme == "tls" {
                    Authority::in_dir(place.dir()).issue("node", |_| {});
                }
                let bound = self.options(place).bind(&address).await;
                let mut listener = bound.map_err(io_error)?;
                // Written aside first, so that nobody reads half of it.
                let aside = place.dir().join("aside");
                std::fs::write(&aside, listener.local_endpoint().to_string())?;
                std::fs::rename(&aside, &told)?;
                listener.accept().await.expect("it has no end")?
            }
            Side::There => {
                let address = place.retry(async || std::fs::read_to_string(&told)).await?;
                let connected = self.options(place).connect(&endpoint(address)).await;
                connected.map_err(io_error)?
            }
        };
        Ok(both(connection))
    }
}

/// A FIFO each way.
pub(crate) struct Fifos {
    poll_for: Duration,
}

impl Fifos {
    pub(crate) fn new() -> Self {
        let poll_for = Duration::ZERO;
        Self { poll_for }
    }

    pub(crate) fn in_latency_mode() -> Self {
        let poll_for = POLL_FOR;
        Self { poll_for }
    }
}

impl Transport for Fifos {
    fn promises(&self) -> Promises {
        Promises::from(endpoint("fifo:/x".into()).capabilities()).with_halves_told_apart()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let fifo = |name| endpoint(format!("fifo:{}/{name}", place.dir().display()));
        let (to, from) = (fifo("to"), fifo("from"));
        let mut options = options(place);
        options.poll_for(self.poll_for);
        match side {
            Side::Here => one_way(&options, &to, &from).await,
            Side::There => one_way(&options, &from, &to).await,
        }
    }
}

/// A datagram socket each way.
pub(crate) struct Datagrams {
    scheme: &'static str,
}

impl Datagrams {
    pub(crate) fn new(scheme: &'static str) -> Self {
        Self { scheme }
    }

    fn address(&self, place: &Place, way: &str) -> Endpoint {
        let (dir, name) = (place.dir().display(), place.name());
        endpoint(match self.scheme {
            "udp" => "udp://127.0.0.1:0".into(),
            scheme if scheme.ends_with('@') => format!("{scheme}{name}-{way}"),
            scheme => format!("{scheme}:{dir}/{way}"),
        })
    }
}

impl Transport for Datagrams {
    fn promises(&self) -> Promises {
        let address = match self.scheme {
            "udp" => "udp://127.0.0.1:0".to_owned(),
            scheme => format!("{scheme}:/x").replace("@:", "@"),
        };
        Promises::from(endpoint(address).capabilities()).with_halves_told_apart()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let (ours, theirs) = match side {
            Side::Here => ("here", "there"),
            Side::There => ("there", "here"),
        };
        let options = options(place);
        let bound = options.bind(&self.address(place, ours)).await;
        let listener = bound.map_err(io_error)?;
        let told = |way| place.dir().join(format!("address-{way}"));
        // Written aside first, so that nobody reads half of it.
        let aside = place.dir().join(format!("aside-{ours}"));
        std::fs::write(&aside, listener.local_endpoint().to_string())?;
        std::fs::rename(&aside, told(ours))?;
        let read = async || std::fs::read_to_string(told(theirs));
        let to = endpoint(place.retry(read).await?);
        let sender = options.open_sender(&to).await.map_err(io_error)?;
        let receiver = listener.into_receiver();
        Ok(End::new(sender.into_frames(), receiver.into_frames()))
    }
}

/// A queue each way.
pub(crate) struct Queues {
    driver: &'static str,
    poll_for: Duration,
}

/// The largest message of the queues.
const QUEUE_MESSAGE: usize = 1024;

impl Queues {
    pub(crate) fn new(driver: &'static str) -> Self {
        let poll_for = Duration::ZERO;
        Self { driver, poll_for }
    }

    pub(crate) fn in_latency_mode(self) -> Self {
        let poll_for = POLL_FOR;
        Self { poll_for, ..self }
    }

    fn address(&self, name: &str) -> Endpoint {
        let driver = self.driver;
        endpoint(format!(
            "mq:{name}?capacity=8&max-message={QUEUE_MESSAGE}&driver={driver}"
        ))
    }
}

impl Transport for Queues {
    fn promises(&self) -> Promises {
        Promises::from(self.address("/x").capabilities()).without_end()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let name = |way| format!("/{}-{way}", place.name());
        let (to, from) = (self.address(&name("to")), self.address(&name("from")));
        let mut options = options(place);
        options.poll_for(self.poll_for);
        match side {
            Side::Here => {
                // Removes both, however the test ends.
                let names = (QueueName(name("to")), QueueName(name("from")));
                Ok(one_way(&options, &to, &from).await?.keeping(names))
            }
            Side::There => one_way(&options, &from, &to).await,
        }
    }
}

/// The same by coalesced senders.
pub(crate) struct Coalesced<T>(pub(crate) T);

impl<T: Transport> Transport for Coalesced<T> {
    fn promises(&self) -> Promises {
        Transport::promises(&self.0)
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        Ok(self.0.open(place, side).await?.coalesced())
    }
}

/// A FIFO one way and a queue the other, as one connection: both ends are told, that of the queue by
/// a message.
pub(crate) struct Mixed;

impl Transport for Mixed {
    fn promises(&self) -> Promises {
        // Empty ones go over the FIFO.
        Promises::new().with_largest(QUEUE_MESSAGE)
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let name = format!("/{}", place.name());
        let to = endpoint(format!("fifo:{}/to", place.dir().display()));
        let from = Queues::new("pool").address(&name);
        let options = options(place);
        match side {
            Side::Here => {
                let name = QueueName(name);
                let connected = options.connect_pair(&to, &from).await.map_err(io_error)?;
                Ok(both(connected).keeping(name))
            }
            Side::There => {
                let connected = options.connect_pair(&from, &to).await;
                Ok(both(connected.map_err(io_error)?))
            }
        }
    }
}

/// The other end is a child, started by its address alone; it speaks over its standard input and
/// output.
pub(crate) struct Exec;

impl Link for Exec {
    fn promises(&self) -> Promises {
        endpoint("exec:cat".into()).capabilities().into()
    }

    async fn start(&self, place: &Place, far: Far) -> io::Result<(End, Process)> {
        let program = far.into_command();
        // The shell puts the pipes where the test runner in the child does not print.
        let mut words = vec![
            "-c".into(),
            "exec 3<&0 4>&1 </dev/null >/dev/null && exec \"$@\"".into(),
            "sh".into(),
            OsString::from("env"),
        ];
        for (name, value) in program.get_envs() {
            let value = value.expect("it is set").to_string_lossy().into_owned();
            words.push(format!("{}={value}", name.to_string_lossy()).into());
        }
        words.push(program.get_program().into());
        words.extend(program.get_args().map(Into::into));
        let exec = Endpoint::exec("sh", words).expect("it is a command");
        // Through its text, as a user would give it.
        let exec = endpoint(exec.to_string());
        let connected = options(place).connect(&exec).await;
        let mut connection = connected.map_err(io_error)?;
        let child = connection.take_child().expect("it has a process");
        Ok((both(connection), Process::from(child)))
    }

    async fn far(&self, place: &Place) -> io::Result<End> {
        stdio(place).await
    }
}

/// Makes the descriptors 3 and 4 standard input and output, and opens these.
async fn stdio(place: &Place) -> io::Result<End> {
    claim();
    let take = |number| inherited::take(number).map_err(io::Error::from);
    nix::unistd::dup2_stdin(take(3)?)?;
    nix::unistd::dup2_stdout(take(4)?)?;
    let connected = options(place).connect(&endpoint("stdio:".into())).await;
    Ok(both(connected.map_err(io_error)?).keeping(Borrowed))
}

/// Standard output while it is the transport's: what is printed later is not for that.
struct Borrowed;

impl Drop for Borrowed {
    fn drop(&mut self) {
        nix::unistd::dup2_stdout(io::stderr()).expect("there is room");
    }
}

/// Starts the program with these descriptors as its 3 and 4.
fn spawn_with(program: Command, three: OwnedFd, four: Option<OwnedFd>) -> io::Result<Process> {
    let command = tokio::process::Command::from(program);
    let mut command = aqueduct::child::Command::from(command);
    command.pass(3, three);
    if let Some(four) = four {
        command.pass(4, four);
    }
    let child: Child = command.spawn().map_err(io::Error::from)?;
    Ok(child.into())
}

/// Two pipes: the program, and what we send to and receive from.
fn spawn_with_pipes(program: Command) -> io::Result<(Process, Endpoint, Endpoint)> {
    let (their_input, our_output) = io::pipe()?;
    let (our_input, their_output) = io::pipe()?;
    let process = spawn_with(program, their_input.into(), Some(their_output.into()))?;
    Ok((
        process,
        inherited::offer(our_output)?,
        inherited::offer(our_input)?,
    ))
}

/// A connection over a descriptor of ours.
async fn over(place: &Place, fd: impl Into<OwnedFd>) -> io::Result<End> {
    let connected = options(place).connect(&inherited::offer(fd)?).await;
    Ok(both(connected.map_err(io_error)?))
}

/// Descriptors that both sides have inherited.
pub(crate) enum Descriptors {
    StreamSockets,
    PacketSockets,
    Pipes,
}

impl Link for Descriptors {
    fn promises(&self) -> Promises {
        // Of the descriptor only opening tells; these are of the same kinds.
        match self {
            Self::StreamSockets => Link::promises(&Sockets::new("unix:@")),
            Self::PacketSockets => Link::promises(&Sockets::new("unixpacket:@")),
            Self::Pipes => Link::promises(&Fifos::new()),
        }
    }

    async fn start(&self, place: &Place, far: Far) -> io::Result<(End, Process)> {
        let program = far.into_command();
        match self {
            Self::StreamSockets => {
                let (ours, theirs) = UnixStream::pair()?;
                let process = spawn_with(program, theirs.into(), None)?;
                Ok((over(place, ours).await?, process))
            }
            Self::PacketSockets => {
                let kind = socket2::Type::SEQPACKET;
                let (ours, theirs) = socket2::Socket::pair(socket2::Domain::UNIX, kind, None)?;
                let process = spawn_with(program, theirs.into(), None)?;
                Ok((over(place, ours).await?, process))
            }
            Self::Pipes => {
                let (process, to, from) = spawn_with_pipes(program)?;
                Ok((one_way(&options(place), &to, &from).await?, process))
            }
        }
    }

    async fn far(&self, place: &Place) -> io::Result<End> {
        claim();
        let number = |number| endpoint(format!("fd:{number}"));
        match self {
            Self::StreamSockets | Self::PacketSockets => {
                let connected = options(place).connect(&number(3)).await;
                Ok(both(connected.map_err(io_error)?))
            }
            Self::Pipes => one_way(&options(place), &number(4), &number(3)).await,
        }
    }
}

/// The other side's standard input and output.
pub(crate) enum StdioOver {
    Pipes,
    Socket,
}

impl Link for StdioOver {
    fn promises(&self) -> Promises {
        let promises = Promises::from(endpoint("stdio:".into()).capabilities());
        match self {
            Self::Pipes => promises.with_halves_told_apart(),
            Self::Socket => promises,
        }
    }

    async fn start(&self, place: &Place, far: Far) -> io::Result<(End, Process)> {
        let program = far.into_command();
        match self {
            Self::Pipes => {
                let (process, to, from) = spawn_with_pipes(program)?;
                Ok((one_way(&options(place), &to, &from).await?, process))
            }
            Self::Socket => {
                let (ours, socket) = UnixStream::pair()?;
                let again = socket.as_fd().try_clone_to_owned()?;
                let process = spawn_with(program, socket.into(), Some(again))?;
                Ok((over(place, ours).await?, process))
            }
        }
    }

    async fn far(&self, place: &Place) -> io::Result<End> {
        stdio(place).await
    }
}
