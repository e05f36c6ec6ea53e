//! The store's contract. Each test runs against memory, a SQLite file and a real Postgres; `files` is about files only,
//! `servers` about Postgres.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic, and a child tells what it did"
)]

mod files;
mod formats;
mod graphs;
mod inbox;
mod kill;
mod lifecycle;
mod modules;
mod payloads;
mod postgres;
mod redrives;
mod servers;
mod slots;
mod topics;
mod write_times;

use store::{Options, Store};

/// Runs a test against all kinds of store, with one inbox shard.
async fn each<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    each_with(1, test).await;
}

/// As `each`, with so many inbox shards.
async fn each_with<F: Future<Output = ()>>(inbox_shards: u32, test: impl Fn(Store) -> F) {
    let options = Options {
        inbox_shards: Some(inbox_shards),
        ..Options::default()
    };
    let open = async |url: &str| Store::connect_with(url, &options).await.unwrap();
    test(open("sqlite::memory:").await).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    test(open(&format!("sqlite:{}", path.display())).await).await;
    let store = open(&postgres::database().await).await;
    test(store.clone()).await;
    store.close().await;
}
