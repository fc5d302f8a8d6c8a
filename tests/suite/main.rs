//! Integration and conformance tests, one binary.

mod fd;
mod frame;
mod pipe;
mod support;
