//! `aqueduct tour`.
