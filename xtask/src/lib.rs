//! What a Makefile should not do: building the WASM steps that are committed, sending the example's input, starting
//! the services that tests need. A library too, so that tests of other crates can ask for the same things.

pub mod checker;
pub mod github;
pub mod guests;
pub mod proof;
pub mod prove;
pub mod proxy;
pub mod run;
pub mod services;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The root of the checkout that this was built from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace's root")
        .to_path_buf()
}
