//! Ingest with a real HTTP server, a real log and a real store, both in memory unless the test is about them.

mod inbox;
mod line;
mod manual;
mod refusals;
mod signatures;
mod webhook;
