//! A graph is paused, resumed, rolled back and deleted.

use schemas::graph::Resolve;
use store::{
    Activation, ChangeKind, Disposition, GraphState, Listed, NewVersion, Releasing, Rollback,
    Store, StoreError,
};

use crate::each;

const T: &str = "default";

/// A real graph: a rollback proves it. `note` makes the version; it has the webhook path `/NAME-PATH` for each path.
fn new(name: &str, note: &str, paths: &[&str]) -> NewVersion {
    let hooks: Vec<String> = paths
        .iter()
        .map(|path| format!("  h{path}: {{ webhook: {{ path: /{path} }} }}\n"))
        .collect();
    let from: Vec<String> = paths.iter().map(|path| format!("h{path}")).collect();
    let text = format!(
        "weir: 1\nname: {name}\ntriggers:\n  hand: {{ manual: {{}} }}\n{}steps:\n  s{note}: {{ uses: m, from: [hand, {}] }}\n",
        hooks.concat(),
        from.join(", ")
    )
    .replace(", ]", "]");
    let graph = resolved(&text);
    let canonical = graph.canonical().unwrap();
    NewVersion {
        tenant: T.to_owned(),
        graph: name.to_owned(),
        version: schemas::graph::version(&canonical),
        canonical,
        source: text,
        webhooks: graph.webhooks(),
        at_ms: 1,
        ..NewVersion::default()
    }
}

pub(crate) fn resolved(text: &str) -> schemas::graph::Graph {
    let graph = schemas::graph::parse(text, "graph.yaml").unwrap_or_else(|p| panic!("{p}"));
    graph.resolve(&mut Same).unwrap()
}

/// Every module is the same one.
struct Same;

impl Resolve for Same {
    fn module(&mut self, _: &str) -> Result<String, String> {
        Ok(format!("sha256:{}", "ab".repeat(32)))
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}

/// Goes back.
async fn go_back(store: &Store, graph: &str, to: Option<&str>) -> Result<Activation, StoreError> {
    let back = Rollback {
        tenant: T,
        graph,
        to,
        starts: &[],
        at_ms: 9,
    };
    store.rollback(back).await
}

fn what(activation: &Activation) -> (i64, bool, GraphState, Option<i64>) {
    let Activation {
        epoch,
        changed,
        state,
        paused_at_ms,
        ..
    } = activation;
    (*epoch, *changed, *state, *paused_at_ms)
}

async fn kinds(store: &Store, graph: &str) -> Vec<ChangeKind> {
    let mut history = store.history(T, graph, 99).await.unwrap();
    history.reverse();
    history.into_iter().map(|change| change.kind).collect()
}

#[tokio::test]
async fn a_pause_from_its_beginning_to_its_end() {
    use GraphState::{Active, Paused, Resuming};
    each(|store| async move {
        store.apply(new("g", "1", &[])).await.unwrap();
        let idle = store.resume(T, "g", 5).await.unwrap();
        assert_eq!(what(&idle), (1, false, Active, None));
        let paused = store.pause(T, "g", 10).await.unwrap();
        assert_eq!(what(&paused), (2, true, Paused, Some(10)));
        let again = store.pause(T, "g", 11).await.unwrap();
        assert_eq!(what(&again), (2, false, Paused, Some(10)));
        assert_eq!(store.releasing().await.unwrap(), []);
        assert!(!store.settled(T, "g", 2).await.unwrap(), "not resumed");

        let resuming = store.resume(T, "g", 20).await.unwrap();
        assert_eq!(what(&resuming), (3, true, Resuming, Some(10)));
        let again = store.resume(T, "g", 21).await.unwrap();
        assert_eq!(what(&again), (3, false, Resuming, Some(10)));
        let releasing = Releasing {
            tenant: T.to_owned(),
            graph: "g".to_owned(),
            epoch: 3,
            paused_at_ms: 10,
            deleted: false,
        };
        assert_eq!(
            store.releasing().await.unwrap(),
            std::slice::from_ref(&releasing)
        );

        // paused while it is resuming: what was parked first is older than this pause
        let paused = store.pause(T, "g", 30).await.unwrap();
        assert_eq!(what(&paused), (4, true, Paused, Some(10)));
        assert!(!store.settled(T, "g", 3).await.unwrap(), "paused since");
        assert_eq!(store.releasing().await.unwrap(), []);
        store.resume(T, "g", 40).await.unwrap();
        assert!(store.settled(T, "g", 5).await.unwrap());
        assert!(!store.settled(T, "g", 5).await.unwrap(), "only once");
        let active = store.active(T, "g").await.unwrap().unwrap();
        assert_eq!(what(&active), (6, false, Active, None));
        assert_eq!(
            kinds(&store, "g").await,
            [
                ChangeKind::Applied,
                ChangeKind::Paused,
                ChangeKind::Resumed,
                ChangeKind::Paused,
                ChangeKind::Resumed,
                ChangeKind::Settled
            ]
        );
        let states: Vec<GraphState> = store
            .changes_after(0, 99)
            .await
            .unwrap()
            .into_iter()
            .map(|change| change.state)
            .collect();
        assert_eq!(states, [Active, Paused, Resuming, Paused, Resuming, Active]);
    })
    .await;
}

#[tokio::test]
async fn a_paused_graph_stays_paused_whatever_is_applied() {
    each(|store| async move {
        store.apply(new("g", "1", &[])).await.unwrap();
        store.pause(T, "g", 10).await.unwrap();
        let applied = store.apply(new("g", "2", &[])).await.unwrap();
        assert_eq!(what(&applied), (3, true, GraphState::Paused, Some(10)));
        let back = go_back(&store, "g", None).await.unwrap();
        assert_eq!(what(&back), (4, true, GraphState::Paused, Some(10)));
        store.resume(T, "g", 30).await.unwrap();
        let applied = store.apply(new("g", "3", &[])).await.unwrap();
        assert_eq!(what(&applied), (6, true, GraphState::Resuming, Some(10)));
        assert!(
            !store.settled(T, "g", 5).await.unwrap(),
            "the epoch is another"
        );
        assert!(store.settled(T, "g", 6).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn back_to_an_earlier_version() {
    each(|store| async move {
        let [one, two, three] = ["1", "2", "3"].map(|note| new("g", note, &["a"]));
        for version in [&one, &two, &three] {
            store.apply(version.clone()).await.unwrap();
        }
        store.pause(T, "g", 5).await.unwrap();
        store.resume(T, "g", 5).await.unwrap();
        let back = go_back(&store, "g", None).await.unwrap();
        assert_eq!((&back.version, back.changed), (&two.version, true));
        let back = go_back(&store, "g", None).await.unwrap();
        assert_eq!((&back.version, back.epoch), (&one.version, 7));
        let end = go_back(&store, "g", None).await.unwrap_err();
        assert!(
            matches!(end, StoreError::NoVersion { .. }) && end.disposition() == Disposition::Reject,
            "{end}"
        );
        let active = store.active(T, "g").await.unwrap().unwrap();
        assert_eq!((active.version.as_str(), active.epoch), (&*one.version, 7));
        let source = store.source(T, "g", &one.version).await.unwrap();
        assert_eq!(source, Some(one.source), "that of its application");

        let to = go_back(&store, "g", Some(&three.version[..6])).await;
        assert_eq!(to.unwrap().version, three.version);
        let same = go_back(&store, "g", Some(&three.version)).await;
        assert_eq!(same.map(|same| same.changed), Ok(false));
        for (to, said) in [
            ("12345", "first 6"),
            ("ABCDEF", "first 6"),
            ("' or 1=1", "first 6"),
            ("000000", "begins with"),
        ] {
            let error = go_back(&store, "g", Some(to)).await.unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let change = &store.history(T, "g", 1).await.unwrap()[0];
        assert_eq!(
            (change.kind, change.source.as_str()),
            (ChangeKind::RolledBack, "")
        );
        // another graph's versions are none of its own
        let other = new("other", "1", &[]);
        store.apply(other.clone()).await.unwrap();
        let error = go_back(&store, "g", Some(&other.version)).await;
        assert!(matches!(error, Err(StoreError::NoVersion { .. })));
    })
    .await;
}

#[tokio::test]
async fn the_paths_of_the_version_that_it_goes_back_to_are_claimed() {
    each(|store| async move {
        store.apply(new("g", "1", &["a"])).await.unwrap();
        let second = store.apply(new("g", "2", &["b"])).await.unwrap();
        store.apply(new("other", "1", &["a"])).await.unwrap();
        assert_eq!(
            go_back(&store, "g", None).await,
            Err(StoreError::PathTaken {
                path: "/a".to_owned(),
                owner: "other".to_owned()
            })
        );
        let active = store.active(T, "g").await.unwrap().unwrap();
        assert_eq!(active.version, second.version, "nothing of it stays");
        assert!(store.webhook(T, "/b").await.unwrap().is_some());

        store.delete(T, "other", 6).await.unwrap();
        go_back(&store, "g", None).await.unwrap();
        assert_eq!(store.webhook(T, "/b").await.unwrap(), None);
        assert_eq!(store.webhook(T, "/a").await.unwrap().unwrap().graph, "g");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_graph_is_gone_until_it_is_applied() {
    use GraphState::{Active, Deleted};
    each(|store| async move {
        store.apply(new("g", "1", &["a"])).await.unwrap();
        store.apply(new("h", "1", &[])).await.unwrap();
        let deleted = store.delete(T, "g", 10).await.unwrap();
        assert_eq!(what(&deleted), (3, true, Deleted, None));
        let again = store.delete(T, "g", 11).await.unwrap();
        assert_eq!(what(&again), (3, false, Deleted, None));
        assert_eq!(store.webhook(T, "/a").await.unwrap(), None);
        assert_eq!(store.releasing().await.unwrap(), [], "nothing was parked");
        assert!(!store.settled(T, "g", 3).await.unwrap());
        for error in [
            store.pause(T, "g", 12).await.unwrap_err(),
            store.resume(T, "g", 12).await.unwrap_err(),
            go_back(&store, "g", None).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
            assert!(error.to_string().contains("apply it"), "{error}");
        }
        for error in [
            store.pause(T, "none", 12).await.unwrap_err(),
            store.resume(T, "none", 12).await.unwrap_err(),
            store.delete(T, "none", 12).await.unwrap_err(),
            store.delete("other", "g", 12).await.unwrap_err(),
            store.delete(T, "a\0b", 12).await.unwrap_err(),
            go_back(&store, "none", Some("abcdef")).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        }
        let names = |graphs: Vec<Activation>| -> Vec<String> {
            graphs.into_iter().map(|graph| graph.graph).collect()
        };
        let listed = async |listed| names(store.graphs(T, listed, None, 9).await.unwrap());
        assert_eq!(listed(Listed::Present).await, ["h"]);
        assert_eq!(listed(Listed::All).await, ["g", "h"]);

        let back = store.apply(new("g", "1", &["a"])).await.unwrap();
        assert_eq!(what(&back), (4, true, Active, None), "the same version");
        assert!(store.webhook(T, "/a").await.unwrap().is_some());
        assert_eq!(listed(Listed::Present).await, ["g", "h"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_deleted_graph_has_parked_is_buried_first() {
    each(|store| async move {
        store.apply(new("g", "1", &[])).await.unwrap();
        store.pause(T, "g", 10).await.unwrap();
        store.resume(T, "g", 20).await.unwrap();
        let deleted = store.delete(T, "g", 30).await.unwrap();
        assert_eq!(what(&deleted), (4, true, GraphState::Deleted, Some(10)));
        let releasing = store.releasing().await.unwrap();
        assert_eq!(
            releasing
                .iter()
                .map(|r| (r.epoch, r.paused_at_ms, r.deleted))
                .collect::<Vec<_>>(),
            [(4, 10, true)]
        );
        let early = store.apply(new("g", "1", &[])).await.unwrap_err();
        assert!(
            matches!(early, StoreError::Burying { .. })
                && early.disposition() == Disposition::Retry,
            "{early}"
        );
        assert!(store.settled(T, "g", 4).await.unwrap());
        assert_eq!(store.releasing().await.unwrap(), []);
        let gone = store.active(T, "g").await.unwrap().unwrap();
        assert_eq!(what(&gone), (5, false, GraphState::Deleted, None));
        let back = store.apply(new("g", "1", &[])).await.unwrap();
        assert_eq!(what(&back), (6, true, GraphState::Active, None));
    })
    .await;
}
