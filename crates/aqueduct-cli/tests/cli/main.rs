//! End-to-end tests of the command, against real second processes.

mod address;
mod c_peer;
mod fifo;
mod mq;
mod output;
mod stdio;
mod stop;
mod support;
mod tour;
