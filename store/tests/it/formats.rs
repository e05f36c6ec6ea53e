//! Stores that older programs wrote.

use sqlx::ConnectOptions as _;
use store::{ChangeKind, GraphState, Listed, Store};

use crate::postgres;

#[tokio::test]
async fn a_file_of_format_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(include_str!("formats/1.sqlite.sql"))
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    opens(Store::open(&path).await.unwrap()).await;
    // and once more: nothing is done twice
    Store::open(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn a_database_of_format_1() {
    let url = postgres::database().await;
    postgres::execute(&url, include_str!("formats/1.postgres.sql").to_owned()).await;
    opens(Store::connect(&url).await.unwrap()).await;
    Store::connect(&url).await.unwrap().close().await;
}

/// What it holds is there, and can be changed.
async fn opens(store: Store) {
    let old = store.active("default", "old").await.unwrap().unwrap();
    assert_eq!(
        (old.epoch, old.at_ms, old.state, old.paused_at_ms),
        (2, 20, GraphState::Active, None)
    );
    assert_eq!(old.version, schemas::graph::version(b"2"));
    let history = store.history("default", "old", 9).await.unwrap();
    assert!(
        history
            .iter()
            .all(|change| change.kind == ChangeKind::Applied && change.state == GraphState::Active),
        "{history:?}"
    );
    let source = store.source("default", "old", &old.version).await;
    assert_eq!(source.unwrap().as_deref(), Some("# 2"));
    let hook = store.webhook("default", "/old").await.unwrap().unwrap();
    assert_eq!((hook.graph.as_str(), hook.epoch), ("old", 2));
    assert_eq!(store.releasing().await.unwrap(), []);

    let paused = store.pause("default", "old", 30).await.unwrap();
    assert_eq!((paused.epoch, paused.changed), (3, true));
    let listed = store.graphs("default", Listed::Present, None, 9).await;
    assert_eq!(listed.unwrap()[0].state, GraphState::Paused);
    store.close().await;
}
