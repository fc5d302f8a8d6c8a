//! A program for each connection, which it gets as its standard input and output.

use std::future::pending;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use aqueduct::child::{Child, Command};
use aqueduct::connect::{ByteStream, Connection};
use aqueduct::frame::Framing;
use aqueduct::service::{self, CancellationToken};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::facts::Facts;
use super::group::Group;
use super::{Serving, two_way};
use crate::config::{ServeConfig, Side};
use crate::exit::Exit;
use crate::link;
use crate::pump;
use crate::report::Report;
use crate::shortage::{shortage, told};
use crate::signals::Signals;

/// How soon a program is started again where descriptors, processes or memory are short.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn run(
    config: &ServeConfig,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    let (endpoint, link) = (&config.endpoint, &config.link);
    let opening = two_way::open(config, report);
    let opened = link::opened(opening, endpoint, link, Side::Connect, signals, report);
    let Some((listener, facts)) = opened.await? else {
        return Ok(Exit::Done);
    };
    signals
        .ready(format_args!("serving {}", config.endpoint))
        .await;
    let mut options = service::Options::new();
    if let Some(connections) = config.link.clients.connections {
        options.max_connections(connections);
    }
    let shutdown = CancellationToken::new();
    let programs = Arc::new(Programs {
        command: config.command.clone(),
        facts,
        report: report.clone(),
        running: AtomicUsize::new(0),
        changed: Notify::new(),
        starting: tokio::sync::Mutex::default(),
        shutdown: shutdown.clone(),
    });
    let at_work = Arc::clone(&programs);
    let served = options.serve(listener, shutdown.clone(), move |connection, _| {
        let programs = Arc::clone(&at_work);
        async move { programs.serve(connection).await }
    });
    let serving = Serving {
        shutdown,
        idle: || programs.idle(config.link.timeout),
        stop: || {},
        unfinished: "all programs had ended",
        aborted: ("program", "killed: not ended"),
    };
    serving.run(served, signals, config).await
}

/// What every connection needs.
struct Programs {
    command: Vec<std::ffi::OsString>,
    facts: Facts,
    report: Report,
    running: AtomicUsize,
    changed: Notify,
    /// Held while a program is started: where that has to wait, the others wait behind it.
    starting: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
}

/// A program and what it talks to.
struct Started {
    child: Child,
    group: Group,
    /// Both sides, where the program did not get the socket itself.
    pumped: Option<(ByteStream, ByteStream)>,
}

impl Programs {
    /// Waits until no program has run for so long.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        loop {
            let changed = self.changed.notified();
            if self.running.load(Ordering::Relaxed) > 0 {
                changed.await;
                continue;
            }
            tokio::select! {
                () = sleep(limit) => return,
                () = changed => {}
            }
        }
    }

    /// Runs the program for one connection. What goes wrong is told and ends that connection alone.
    async fn serve(&self, connection: Connection) -> Result<(), std::io::Error> {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
        let peer = connection.peer().clone();
        let served = self.run(connection).await;
        if let Err(error) = &served {
            self.report
                .frequent_failure(format_args!("{peer}: {error:#}"));
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_waiters();
        served.map_err(std::io::Error::other)
    }

    async fn run(&self, connection: Connection) -> anyhow::Result<()> {
        let facts = self.facts.clone().with_peer(connection.peer().clone());
        let Ok(stream) = connection.into_bytes() else {
            anyhow::bail!("a program for each connection needs a stream of bytes");
        };
        let Some(Started {
            mut child,
            mut group,
            pumped,
        }) = self.start(stream, &facts).await?
        else {
            return Ok(());
        };
        let passed = async {
            match pumped {
                Some((client, program)) => {
                    let raw = Framing::raw();
                    let [client, program] =
                        [client, program].map(|it| Connection::from_io(it, raw.clone()));
                    pump::pass(client, program, &raw, |_, _| Ok(()), pending()).await
                }
                None => Ok(()),
            }
        };
        // A client that was reset is no failure of the program.
        let (status, _) = tokio::join!(child.wait(), passed);
        group.has_ended();
        let status = status?;
        let name = self.command.first().context("there is no CMD")?;
        anyhow::ensure!(status.success(), "{}: {status}", name.to_string_lossy());
        Ok(())
    }

    /// Starts the program, waiting where there is a shortage; `None`: told to stop meanwhile.
    async fn start(&self, stream: ByteStream, facts: &Facts) -> anyhow::Result<Option<Started>> {
        let _turn = self.starting.lock().await;
        let mut stream = Some(stream);
        let mut socket = None;
        loop {
            if let Some(given) = stream.take() {
                match given.into_socket() {
                    Ok(whole) => socket = Some(whole),
                    Err(given) => stream = Some(given),
                }
            }
            let error = match self.try_start(&mut stream, socket.as_ref(), facts) {
                Ok(started) => return Ok(Some(started)),
                Err(error) => error,
            };
            let Some(cure) = shortage(&error) else {
                return Err(error);
            };
            self.report.frequent_failure(format_args!(
                "a program cannot be started, and its client waits: {}",
                told(&error, cure)
            ));
            tokio::select! {
                () = sleep(SHORT_PAUSE) => {}
                () = self.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    fn try_start(
        &self,
        stream: &mut Option<ByteStream>,
        socket: Option<&std::os::fd::OwnedFd>,
        facts: &Facts,
    ) -> anyhow::Result<Started> {
        let (program, args) = self.command.split_first().context("there is no CMD")?;
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true);
        facts.tell_connection(&mut command);
        // Ctrl-C at the terminal is for this process, which lets those at work finish.
        command.as_tokio_mut().process_group(0);
        match socket {
            Some(socket) => {
                let (input, output) = (socket.try_clone()?, socket.try_clone()?);
                let tokio = command.as_tokio_mut();
                tokio.stdin(Stdio::from(input)).stdout(Stdio::from(output));
            }
            None => {
                command.pipe_to_child(0).pipe_from_child(1);
            }
        }
        let mut child = command.spawn()?;
        let group = Group::of(&child);
        let pumped = match socket {
            Some(_) => None,
            None => {
                let (output, input) = (child.take_receiver(1)?, child.take_sender(0)?);
                stream
                    .take()
                    .map(|it| (it, ByteStream::join(output, input)))
            }
        };
        Ok(Started {
            child,
            group,
            pumped,
        })
    }
}
