//! What only a file can show: it is opened again, it fills up, it is not ours.

use bytes::Bytes;
use store::{Disposition, Entry, Options, Put, Store, StoreError};

use crate::inbox::entry;

#[tokio::test]
async fn what_was_written_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    let digest = store.put_module(b"module").await.unwrap();
    assert_eq!(store.inbox().put(entry("a", 1, 1)).await, Ok(Put::New));
    store.close().await;
    assert!(
        matches!(
            store.inbox().put(entry("b", 1, 1)).await,
            Err(StoreError::Unavailable { .. })
        ),
        "closed"
    );
    drop(store);

    let store = Store::open(&path).await.unwrap();
    assert_eq!(
        store
            .has_modules(std::slice::from_ref(&digest))
            .await
            .unwrap(),
        [digest]
    );
    assert!(matches!(
        store.inbox().put(entry("a", 1, 2)).await,
        Ok(Put::Duplicate { .. })
    ));
    assert_eq!(store.inbox().put(entry("b", 1, 1)).await, Ok(Put::New));
    let numbers: Vec<i64> = store
        .inbox()
        .after(0, 0, 9, 1 << 20)
        .await
        .unwrap()
        .iter()
        .map(|row| row.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
}

/// A full store says so, keeps what it acknowledged, takes nothing by halves, and goes on when there is space again.
#[tokio::test]
async fn full_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = Options {
        bytes_max: Some(4 << 20),
        ..Options::default()
    };
    let store = Store::open_with(&path, &options).await.unwrap();
    let large = |i: u32| Entry {
        record: Bytes::from(vec![1; 100 << 10]),
        ..entry(&i.to_string(), 0, 0)
    };
    let mut taken = 0;
    let error = loop {
        match store.inbox().put(large(taken)).await {
            Ok(put) => assert_eq!(put, Put::New),
            Err(error) => break error,
        }
        taken += 1;
        assert!(taken < 100, "it never fills up");
    };
    assert_eq!(error.disposition(), Disposition::Full, "{error}");
    assert!(error.to_string().contains("store.db"), "{error}");
    assert!(store.inbox().put(large(taken)).await.is_err(), "still full");
    assert_eq!(
        store
            .put_module(&vec![0; 1 << 20])
            .await
            .map_err(|e| e.disposition()),
        Err(Disposition::Full)
    );

    let kept = store.inbox().after(0, 0, 1_000, 1 << 30).await.unwrap();
    assert_eq!(
        kept.iter().map(|row| row.number).collect::<Vec<_>>(),
        (1..=i64::from(taken)).collect::<Vec<_>>()
    );
    store.inbox().emitted(0, i64::from(taken)).await.unwrap();
    assert_eq!(
        store.inbox().put(large(taken)).await,
        Ok(Put::New),
        "there is space again"
    );
    assert!(matches!(
        store.inbox().put(large(0)).await,
        Ok(Put::Duplicate { .. })
    ));
    let rows = store
        .inbox()
        .after(0, i64::from(taken), 9, 1 << 30)
        .await
        .unwrap();
    assert_eq!(
        rows.iter().map(|row| row.number).collect::<Vec<_>>(),
        [i64::from(taken) + 1],
        "no number is lost by a failure"
    );
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    std::fs::write(&path, vec![b'x'; 40_000]).unwrap();
    let error = Store::open(&path).await.err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let nowhere = Store::open(&folder.path().join("no").join("store.db"))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(nowhere, StoreError::Unavailable { .. }),
        "{nowhere}"
    );
}

#[tokio::test]
async fn a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    Store::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("update store_format set format = 99")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = Store::open(&path).await.err().unwrap();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
}
