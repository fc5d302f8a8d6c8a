//! Integration and conformance tests, one binary.

mod actor;
mod await_points;
mod bare_sinks;
mod channel;
mod child;
mod conformance;
mod connect;
mod contract;
mod examples_services;
mod fd;
mod fd_passing;
mod fifo;
mod fifo_examples;
mod fifo_open;
mod fifo_shared;
mod fifo_wait;
mod frame;
mod handshake;
mod mark;
mod model;
mod mq;
mod mq_c_programs;
mod mq_events;
mod mq_examples;
mod mq_framed;
mod mq_limits;
mod mq_open;
mod mq_processes;
mod mq_replaced;
mod mq_runtime;
mod mq_wait;
mod pipe;
mod reconnect;
mod record;
mod second_user;
mod seqpacket;
mod serve;
mod support;
mod tcp;
mod unix;
mod unix_namespace;
mod watchdog;
mod what_is_left;

// Ends a test that hangs.
use aqueduct_watchdog as _;
