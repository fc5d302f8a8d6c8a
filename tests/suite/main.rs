//! Integration and conformance tests, one binary.

mod support;
