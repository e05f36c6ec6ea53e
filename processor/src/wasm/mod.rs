//! Steps: WASM components of the world `step` in `weir:step` (`sdk/wit`), loaded once and called once per record.
//!
//! The only place in Weir that knows wasmtime. A call is a pure function of its [`Call`]: clocks and randomness come
//! from the record, WASI is linked and empty, and the same call gives the same bytes on every run and every machine.
//!
//! Invariants:
//! - Nothing a guest does panics the host or blocks its thread: a loop, a bomb, a flood or a sleep ends as an [`Outcome`].
//! - An instance serves one tenant, graph, version and step only, and none after it broke: its store is dropped.
//! - A limit reached is a defined outcome that names the limit and the graph's setting for it.
//!
//! It does not retry, route outputs or check that a port exists (the kernel does), and it never sees a topic.
//! Calls run on the caller's stack: call from threads with the usual 2 MiB (the guest may use 512 KiB of it).

mod audit;
mod bindings;
mod cache;
mod call;
mod config;
mod copies;
mod engine;
mod error;
mod grants;
mod instance;
mod kept;
mod logs;
mod module;
mod outside;
mod pool;
mod state;
mod ticker;
mod trap;
mod wasi;

pub use call::{Broken, Call, CallNumber, Called, Level, Log, Outcome, StepEvent, StepOutput};
pub use config::EngineConfig;
pub use engine::{Engine, EngineStats};
pub use error::{Disposition, EngineError};
pub use module::Module;
pub use outside::{Answer, Ask, HttpError, Nowhere, Outside, Sending};
pub use pool::Pool;
