//! Integration tests of the processor.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod determinism;
mod faulty;
mod fuzz;
mod grants;
mod hostile;
mod lanes;
mod motion;
mod payloads;
mod semantics;
mod upstream;
mod wasm;
mod wasm_attacks;
mod wasm_cache;
mod wasm_text;
mod wasm_wasi;
mod web;
