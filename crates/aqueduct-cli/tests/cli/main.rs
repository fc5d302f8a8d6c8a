//! End-to-end tests of the command, against real second processes.

mod address;
mod bad_input;
mod bench;
mod c_peer;
mod call;
mod call_reply;
mod datagrams;
mod doctor;
mod every_address;
mod everyday;
mod fifo;
mod fifo_readers;
mod fifo_refused;
mod frame;
mod help;
mod hostile;
mod jobs;
mod look;
mod mq;
mod mq_c_peer;
mod mq_command;
mod mq_limits;
mod namespace;
mod output;
mod per_connection;
mod proxy;
mod pty;
mod raw;
mod readme;
mod record;
mod refused;
mod relay;
mod serve;
mod shortage;
mod sockets;
mod sources;
mod stdio;
mod stop;
mod supervised;
mod support;
mod talk;
mod talk_terminal;
mod terminal;
mod tour;

// Ends a test that hangs.
use aqueduct_watchdog as _;
