//! A program for each connection, which it gets as its standard input and output.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use aqueduct::child::{Child, Command};
use aqueduct::connect::{ByteStream, Connection};
use aqueduct::frame::Framing;
use aqueduct::service::{self, CancellationToken};

use super::Serving;
use super::facts::Facts;
use super::group::Group;
use super::load::Load;
use super::two_way::Opened;
use crate::config::ServeConfig;
use crate::exit::Exit;
use crate::pump;
use crate::report::Report;
use crate::signals::Signals;

pub(super) async fn run(
    config: &ServeConfig,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    let Some(opened) = Opened::new(config, signals, report).await? else {
        return Ok(Exit::Done);
    };
    let Opened {
        clients,
        facts,
        closed,
    } = opened;
    let mut options = service::Options::new();
    if let Some(connections) = config.link.clients.connections {
        options.max_connections(connections);
    }
    let shutdown = CancellationToken::new();
    let programs = Arc::new(Programs {
        command: config.command.clone(),
        facts,
        report: report.clone(),
        load: Load::default(),
        shutdown: shutdown.clone(),
    });
    let at_work = Arc::clone(&programs);
    let served = options.serve(clients, shutdown.clone(), move |connection, _| {
        let programs = Arc::clone(&at_work);
        async move { programs.serve(connection).await }
    });
    let serving = Serving {
        shutdown,
        closed,
        idle: || programs.load.idle(config.link.timeout),
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
    load: Load,
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
    /// Runs the program for one connection. What goes wrong is told and ends that connection alone.
    async fn serve(&self, connection: Connection) -> Result<(), std::io::Error> {
        self.load.add();
        let peer = connection.peer().clone();
        let served = self.run(connection).await;
        if let Err(error) = &served {
            self.report
                .frequent_failure(format_args!("{peer}: {error:#}"));
        }
        self.load.remove();
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
        let (mut stream, socket) = match stream.into_socket() {
            Ok(socket) => (None, Some(socket)),
            Err(stream) => (Some(stream), None),
        };
        let start = || self.try_start(&mut stream, socket.as_ref(), facts);
        let tell = |shortage: &str| {
            self.report.frequent_failure(format_args!(
                "a program cannot be started, and its client waits: {shortage}"
            ));
        };
        let given_up = self.shutdown.cancelled();
        self.load.start(start, tell, given_up).await
    }

    fn try_start(
        &self,
        stream: &mut Option<ByteStream>,
        socket: Option<&OwnedFd>,
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
