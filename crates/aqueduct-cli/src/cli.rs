//! The command line. `config.rs` resolves it into what to do.

mod address;
mod call;
mod link;
mod look;
mod mq;
mod proxy;
mod relay;
mod serve;
mod talk;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use self::address::Address;
pub(crate) use self::call::CallArgs;
pub(crate) use self::link::{Clients, Frame, Input, Link, Output, Pace, Partial, TooLong, Unfit};
pub(crate) use self::look::{CleanArgs, DoctorArgs, LookArgs, Sort};
pub(crate) use self::mq::{CreateArgs, LimitsArgs, ListArgs, MqArgs, MqCommand, NameArgs};
pub(crate) use self::proxy::ProxyArgs;
pub(crate) use self::relay::RelayArgs;
pub(crate) use self::serve::{Per, ServeArgs};
pub(crate) use self::talk::TalkArgs;

const SEND_EXAMPLES: &str = "\
Examples:
  aqueduct send fifo:/tmp/jobs 'sort the attic' 'paint the fence'
  tail -f app.log | aqueduct send fifo:/tmp/log
  aqueduct send fifo:/tmp/x --frame nul hi          # to a C program
  aqueduct send fifo:/tmp/x --input whole < photo.jpg --frame length
  aqueduct send mq:/jobs --replay jobs.rec --pace fast
  aqueduct send mq:/jobs --priority 9 'call the plumber'
  aqueduct send fifo:/tmp/jobs --wait 5s done || echo nobody there
  aqueduct send unixgram:/dev/log '<13>backup: done'

--timeout applies to each step, not to the whole command: sending goes on as
long as the system accepts some data within that time. A full socket accepts
none until the reader has read most of its contents.";

const RECV_EXAMPLES: &str = "\
Examples:
  aqueduct recv fifo:/tmp/jobs                      # until the senders end
  aqueduct recv 'fifo:/tmp/log?persist=true' >> all.log
  aqueduct recv fifo:/tmp/x --frame nul -n 1        # a string from C
  aqueduct recv fifo:/tmp/x --frame length -n 1 --output raw > photo.jpg
  aqueduct recv mq:/jobs --output json --timeout 10s
  aqueduct recv udp://127.0.0.1:8125                # until it is stopped";

const TOUR_EXAMPLES: &str = "\
Examples:
  aqueduct tour
  aqueduct tour > tour.txt && echo all verified

The exit code is 0 if every step was verified. The tour runs to its end even if
its output is cut short, as by | head. If it is killed by SIGKILL, it leaves no
process behind, but may leave a directory aqueduct-tour-* in $TMPDIR and a queue
of that name; aqueduct clean --yes removes their contents.";

const BENCH_EXAMPLES: &str = "\
Examples:
  aqueduct bench                       # every mechanism, beside system calls
  aqueduct bench unix:/tmp/x fifo:/tmp/y         # these
  aqueduct bench 'mq:/x?capacity=5' --json > here.json

Each figure is the median of three short samples, each by two new processes.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  . <(aqueduct completions bash)                    # in this shell, at once
  aqueduct completions bash > /etc/bash_completion.d/aqueduct
  aqueduct completions zsh > ~/.zfunc/_aqueduct     # a directory in your fpath
  aqueduct completions fish > ~/.config/fish/completions/aqueduct.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  aqueduct man | man -l -                           # read it
  aqueduct man serve | man -l -                     # the page of one command
  aqueduct man --dir /usr/local/share/man/man1      # then: man aqueduct-mq-list";

/// Send and receive messages between processes: FIFOs, queues, sockets and more.
#[derive(Debug, Parser)]
#[command(name = "aqueduct", version, after_help = address::help(),
max_term_width = 80)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Globals {
    /// Print only errors on standard error.
    #[arg(
        short,
        long,
        global = true,
        display_order = 100,
        conflicts_with = "verbose"
    )]
    pub(crate) quiet: bool,
    /// Log what happens; -vv logs details. RUST_LOG selects more finely.
    #[arg(short, long, global = true, display_order = 101, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send messages: the arguments, or standard input.
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// Print messages as they arrive.
    #[command(after_help = RECV_EXAMPLES)]
    Recv(RecvArgs),
    /// Send a message and print the reply.
    Call(CallArgs),
    /// Talk to a peer: send standard input and print its messages, both at once.
    Talk(TalkArgs),
    /// Answer each message with the output of a program, or with the message itself.
    Serve(ServeArgs),
    /// Move messages from any address to any other.
    Relay(RelayArgs),
    /// Connect each client of one address to another address, both ways.
    Proxy(ProxyArgs),
    /// List this user's queues, FIFOs, sockets and shared memory, and who has them open.
    List(LookArgs),
    /// Remove queues, FIFOs and sockets that Aqueduct created and no process uses.
    Clean(CleanArgs),
    /// Check the system's limits and settings, and say what to change.
    Doctor(DoctorArgs),
    /// Manage message queues: list, info, create, unlink, limits.
    Mq(MqArgs),
    /// Measure throughput and round trips between two processes on this machine.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// One process of a measurement.
    #[command(hide = true)]
    BenchPeer(BenchPeerArgs),
    /// Show every mechanism at work between real processes, and verify what arrives.
    #[command(after_help = TOUR_EXAMPLES)]
    Tour(TourArgs),
    /// Print the completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page of a command.
    Man(ManArgs),
    /// One process of the tour.
    #[command(hide = true)]
    TourPeer(PeerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The address to send to, such as fifo:/tmp/jobs.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// The messages, one per argument; without any, they are read from standard input.
    #[arg(value_name = "MESSAGE")]
    pub(crate) messages: Vec<OsString>,
    /// How standard input is split into messages [default: lines; not split where
    /// --frame raw has an effect].
    #[arg(long, value_enum)]
    pub(crate) input: Option<Input>,
    /// The priority of the messages, for a queue: 0 to 32767, highest received first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=32_767))]
    pub(crate) priority: Option<u32>,
    /// Bind a socket and send to the first client, instead of connecting.
    #[arg(long)]
    pub(crate) bind: bool,
    /// Send a recording made by relay --tee, instead of standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["messages", "input"])]
    pub(crate) replay: Option<PathBuf>,
    /// How fast a recording is sent.
    #[arg(long, value_enum, default_value_t, requires = "replay")]
    pub(crate) pace: Pace,
    /// When the reader is gone, wait for the next one (see --wait) and send it the rest.
    #[arg(long)]
    pub(crate) reconnect: bool,
    #[command(flatten)]
    pub(crate) link: Link,
}

#[derive(Debug, Args)]
pub(crate) struct RecvArgs {
    /// The address to receive from, such as fifo:/tmp/jobs.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// How messages are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Exit after N messages, and leave the rest to the next reader.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Connect to a socket, instead of binding it and printing what all clients send.
    #[arg(long)]
    pub(crate) connect: bool,
    /// When the server is gone, wait for the next one (see --wait) and connect to it.
    #[arg(long, requires = "connect")]
    pub(crate) reconnect: bool,
    #[command(flatten)]
    pub(crate) unfit: Unfit,
    #[command(flatten)]
    pub(crate) clients: Clients,
    #[command(flatten)]
    pub(crate) link: Link,
}

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArgs {
    /// The command to document, such as serve or mq list [default: aqueduct itself].
    pub(crate) command: Vec<String>,
    /// Write the pages of all commands into this directory.
    #[arg(long, value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TourArgs {}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The addresses to measure, such as fifo:/tmp/x [default: all mechanisms].
    #[arg(value_name = "ADDRESS", value_parser = Address, hide_possible_values = true)]
    pub(crate) addresses: Vec<OsString>,
    /// Print every sample as JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchPeerArgs {
    pub(crate) spec: String,
}

#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    pub(crate) role: String,
    pub(crate) args: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_behind_the_options_is_not_wrapped() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            let after = command.get_after_help().map(ToString::to_string);
            for line in after.unwrap_or_default().lines() {
                assert!(
                    help.contains(&format!("\n{line}\n")),
                    "it is too long: {line}"
                );
            }
            command.get_subcommands_mut().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }
}
