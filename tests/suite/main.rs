//! Integration and conformance tests, one binary.

mod frame;
mod support;
