//! Integration tests of the processor.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faulty;
mod lanes;
mod motion;
mod payloads;
mod wasm;
mod wasm_attacks;
mod wasm_cache;
mod wasm_text;
mod wasm_wasi;
