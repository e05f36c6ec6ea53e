//! Integration tests of the processor.

mod wasm;
mod wasm_attacks;
mod wasm_cache;
mod wasm_text;
mod wasm_wasi;
