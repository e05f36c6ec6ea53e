//! Ingest with a real HTTP server, a real log and a real store, both in memory unless the test is about them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod cluster;
mod inbox;
mod lifecycle;
mod line;
mod manual;
mod payloads;
mod refusals;
mod signatures;
mod webhook;
