//! The binary as a person uses it: real processes, real sockets, real kills.

#![expect(clippy::print_stderr, reason = "tests tell what they measured")]

mod bad_steps;
mod http;
mod kill;
mod line;
mod weir;
