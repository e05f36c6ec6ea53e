//! The store's contract. Each test runs against a file and against memory where it can; `files` is about files only.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic, and a child tells what it did"
)]

mod files;
mod graphs;
mod inbox;
mod kill;
mod modules;

use store::Store;

/// Runs a test against both kinds of store.
async fn both<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    test(Store::memory().await.unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    test(Store::open(&folder.path().join("store.db")).await.unwrap()).await;
}
