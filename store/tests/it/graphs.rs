//! Versions, activations and webhooks.

use store::{ChangeKind, Hook, Listed, NewVersion, StoreError};

use crate::each;

fn new(graph: &str, canonical: &str, paths: &[&str]) -> NewVersion {
    NewVersion {
        tenant: "default".to_owned(),
        graph: graph.to_owned(),
        version: schemas::graph::version(canonical.as_bytes()),
        canonical: canonical.as_bytes().to_vec(),
        source: format!("# {canonical}"),
        webhooks: paths
            .iter()
            .map(|path| ((*path).to_owned(), "hook".to_owned()))
            .collect(),
        at_ms: 1,
        ..NewVersion::default()
    }
}

#[tokio::test]
async fn each_change_takes_the_next_epoch() {
    each(|store| async move {
        let first = store.apply(new("a", "1", &[])).await.unwrap();
        let second = store.apply(new("b", "1", &[])).await.unwrap();
        let third = store.apply(new("a", "2", &[])).await.unwrap();
        let again = store.apply(new("a", "2", &[])).await.unwrap();
        let back = store.apply(new("a", "1", &[])).await.unwrap();
        assert_eq!(
            [&first, &second, &third, &again, &back].map(|a| (a.epoch, a.changed)),
            [(1, true), (2, true), (3, true), (3, false), (4, true)]
        );
        let active = store.active("default", "a").await.unwrap().unwrap();
        assert_eq!((active.version, active.epoch), (back.version.clone(), 4));
        assert_eq!(store.active("default", "c").await.unwrap(), None);
        assert_eq!(store.active("other", "a").await.unwrap(), None);
        assert_eq!(
            store.version(&third.version).await.unwrap().as_deref(),
            Some(&b"2"[..]),
            "kept though not active"
        );

        let changes = store.changes_after(1, 2).await.unwrap();
        assert_eq!(
            changes
                .iter()
                .map(|c| (c.epoch, c.graph.as_str()))
                .collect::<Vec<_>>(),
            [(2, "b"), (3, "a")]
        );
        assert!(
            changes
                .iter()
                .all(|change| change.kind == ChangeKind::Applied)
        );
        let history = store.history("default", "a", 2).await.unwrap();
        assert_eq!(
            history
                .iter()
                .map(|c| (c.epoch, c.source.as_str()))
                .collect::<Vec<_>>(),
            [(4, "# 1"), (3, "# 2")]
        );
        let names = |graphs: Vec<store::Activation>| {
            graphs.into_iter().map(|g| g.graph).collect::<Vec<_>>()
        };
        assert_eq!(
            names(
                store
                    .graphs("default", Listed::Present, None, 1)
                    .await
                    .unwrap()
            ),
            ["a"]
        );
        assert_eq!(
            names(
                store
                    .graphs("default", Listed::Present, Some("a"), 9)
                    .await
                    .unwrap()
            ),
            ["b"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn epochs_are_seen_in_their_order_while_many_apply() {
    each(|store| async move {
        let mut appliers = tokio::task::JoinSet::new();
        for graph in 0..8 {
            let store = store.clone();
            appliers.spawn(async move {
                for version in 0..10 {
                    store
                        .apply(new(
                            &format!("g{graph}"),
                            &format!("{graph}.{version}"),
                            &[],
                        ))
                        .await
                        .unwrap();
                }
            });
        }
        let mut seen = Vec::new();
        while seen.len() < 80 {
            let last = seen.last().copied().unwrap_or(0);
            seen.extend(
                store
                    .changes_after(last, 7)
                    .await
                    .unwrap()
                    .iter()
                    .map(|change| change.epoch),
            );
        }
        appliers.join_all().await;
        assert_eq!(seen, (1..=80).collect::<Vec<i64>>());
    })
    .await;
}

#[tokio::test]
async fn a_path_belongs_to_one_graph() {
    each(|store| async move {
        store.apply(new("a", "1", &["/x", "/y"])).await.unwrap();
        let taken = store.apply(new("b", "2", &["/z", "/y"])).await;
        assert_eq!(
            taken,
            Err(StoreError::PathTaken {
                path: "/y".to_owned(),
                owner: "a".to_owned()
            })
        );
        assert_eq!(
            store.active("default", "b").await.unwrap(),
            None,
            "nothing of it stays"
        );
        assert_eq!(store.webhook("default", "/z").await.unwrap(), None);
        assert_eq!(store.changes_after(0, 9).await.unwrap().len(), 1);

        let other = NewVersion {
            tenant: "other".to_owned(),
            ..new("b", "2", &["/y"])
        };
        store.apply(other).await.unwrap();

        let moved = store.apply(new("a", "3", &["/x"])).await.unwrap();
        let hook = Hook {
            graph: "a".to_owned(),
            trigger: "hook".to_owned(),
            version: moved.version,
            epoch: moved.epoch,
        };
        assert_eq!(store.webhook("default", "/x").await.unwrap(), Some(hook));
        store.apply(new("b", "2", &["/y"])).await.unwrap();
        assert_eq!(
            store.webhook("default", "/y").await.unwrap().unwrap().graph,
            "b"
        );
    })
    .await;
}

#[tokio::test]
async fn a_wrong_version_is_refused() {
    each(|store| async move {
        let wrong = NewVersion {
            version: "00".to_owned(),
            ..new("a", "1", &[])
        };
        assert!(matches!(
            store.apply(wrong).await,
            Err(StoreError::Invalid { .. })
        ));
        assert!(matches!(
            store.apply(new("a", "1", &["/x", "/x"])).await,
            Err(StoreError::Invalid { .. })
        ));
    })
    .await;
}
