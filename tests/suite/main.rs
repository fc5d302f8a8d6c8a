//! Integration and conformance tests, one binary.

mod actor;
mod channel;
mod child;
mod fd;
mod fd_passing;
mod fifo;
mod fifo_examples;
mod fifo_open;
mod fifo_shared;
mod fifo_wait;
mod frame;
mod handshake;
mod mq;
mod mq_framed;
mod mq_limits;
mod mq_open;
mod mq_processes;
mod mq_wait;
mod pipe;
mod reconnect;
mod seqpacket;
mod serve;
mod support;
mod tcp;
mod unix;
