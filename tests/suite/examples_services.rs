//! The service examples, run as their heads say: real processes, over every kind of address.

mod chat;
mod echo;
mod http;
mod program;
mod rpc;
mod supervisor;
