//! Integration and conformance tests, one binary.

mod fd;
mod fifo;
mod fifo_open;
mod fifo_shared;
mod fifo_wait;
mod channel;
mod child;
mod frame;
mod pipe;
mod support;
