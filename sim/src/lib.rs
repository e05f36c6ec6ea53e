//! Seeded simulation: the true lane and kernel over a model of the cluster, in virtual time, with faults at every call.
//!
//! `broker/` is the model; `port/` is the `Log` port over it; `world.rs` is time, processes and their deaths; `run.rs` runs
//! one seed; `check.rs` counts afterwards. The lane (`processor::Lane`), the executor and the kernel are the ones that
//! run in production; steps are closures. A seed is a run: the same on every machine, and shown step by step on demand.
//!
//! It does not know WASM, HTTP or databases, and it proves nothing about librdkafka: the proofs on the true cluster do.

pub mod broken;
mod broker;
mod check;
mod faults;
mod orders;
mod port;
mod random;
mod run;
pub mod soak;
mod work;
mod world;

pub use broken::Variant;
pub use check::Verdict;
pub use run::{Ran, run};
pub use world::Counts;
