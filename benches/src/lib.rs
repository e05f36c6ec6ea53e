//! What `make bench` measures. Each module measures one part of the line and gives [`report::Row`]s; `suite` lists them,
//! `report` prints and keeps them. The criterion bench in `benches/` uses the same functions.
//!
//! It measures, it does not judge: a missed target is marked and the exit code stays 0.

mod dev;
mod github;
mod http;
pub mod inbox;
pub mod kafka;
pub mod kernel;
mod landing;
mod lane;
mod languages;
pub mod log;
mod meter;
mod modules;
mod place;
mod process;
pub mod report;
pub mod segment;
pub mod steps;
pub mod suite;
mod weir;

use std::io::Write as _;

/// Progress, for whoever waits.
pub fn say(text: &str) {
    // whoever closed stderr does not want it
    writeln!(std::io::stderr(), "{text}").ok();
}
