//! Who reads and writes users' topics, and where their reading starts.

use store::{
    Activation, NewSubscription, NewVersion, Rollback, Store, StoreError, TopicStart,
    TopicSubscribed,
};

use crate::each;
use crate::lifecycle::resolved;

/// A graph with a trigger `tX` for each topic X that it reads, and a sink for each that it writes; `start`: the offset
/// at which each begins, should this be the first.
fn new(name: &str, note: &str, reads: &[&str], writes: &[&str], start: i64) -> NewVersion {
    let mut text = format!("weir: 1\nname: {name}\ntriggers:\n  hand: {{ manual: {{}} }}\n");
    let mut from = vec!["hand".to_owned()];
    for topic in reads {
        text += &format!("  t{topic}: {{ topic: {{ name: {topic}, format: json }} }}\n");
        from.push(format!("t{topic}"));
    }
    text += &format!(
        "steps:\n  s{note}: {{ uses: m, from: [{}] }}\n",
        from.join(", ")
    );
    if !writes.is_empty() {
        text += "sinks:\n";
    }
    for topic in writes {
        text += &format!(
            "  w{topic}: {{ topic: {{ name: {topic}, format: json }}, from: [s{note}] }}\n"
        );
    }
    let graph = resolved(&text);
    let canonical = graph.canonical().unwrap();
    NewVersion {
        tenant: "default".to_owned(),
        graph: name.to_owned(),
        version: schemas::graph::version(&canonical),
        canonical,
        subscriptions: graph
            .subscriptions()
            .map(|(trigger, topic)| NewSubscription {
                trigger: trigger.to_owned(),
                topic: topic.name.clone(),
            })
            .collect(),
        writes: graph
            .topics_written()
            .map(|(_, topic)| topic.to_owned())
            .collect(),
        starts: reads.iter().map(|topic| starts(topic, start)).collect(),
        at_ms: 1,
        ..NewVersion::default()
    }
}

fn starts(topic: &str, start: i64) -> TopicStart {
    TopicStart {
        topic: topic.to_owned(),
        topic_id: format!("{topic}-id"),
        starts: vec![start, start + 1],
    }
}

fn subscribed(topic: &str, generation: i64, start: i64) -> TopicSubscribed {
    TopicSubscribed {
        topic: topic.to_owned(),
        topic_id: format!("{topic}-id"),
        generation,
        starts: vec![start, start + 1],
    }
}

async fn readers(store: &Store, topic: &str) -> Vec<String> {
    let subscribers = store.subscribers(topic).await.unwrap();
    subscribers
        .into_iter()
        .map(|one| format!("{}/{}/{}", one.tenant, one.graph, one.trigger))
        .collect()
}

async fn back(store: &Store, graph: &str, starts: &[TopicStart]) -> Result<Activation, StoreError> {
    let back = Rollback {
        tenant: "default",
        graph,
        to: None,
        starts,
        at_ms: 2,
    };
    store.rollback(back).await
}

#[tokio::test]
async fn a_topic_starts_with_its_first_subscription() {
    each(|store| async move {
        assert_eq!(store.topics_subscribed().await.unwrap(), []);
        store.apply(new("b", "1", &["x"], &[], 10)).await.unwrap();
        store
            .apply(new("a", "1", &["x", "y"], &[], 20))
            .await
            .unwrap();
        assert_eq!(
            store.topics_subscribed().await.unwrap(),
            [subscribed("x", 1, 10), subscribed("y", 1, 20)],
            "a later graph joins"
        );
        assert_eq!(readers(&store, "x").await, ["default/a/tx", "default/b/tx"]);
        // a new version of the only reader reads on
        store
            .apply(new("a", "2", &["x", "y"], &[], 30))
            .await
            .unwrap();
        assert_eq!(
            store.topics_subscribed().await.unwrap(),
            [subscribed("x", 1, 10), subscribed("y", 1, 20)]
        );

        store.apply(new("a", "3", &["x"], &[], 40)).await.unwrap();
        assert_eq!(
            store.topics_subscribed().await.unwrap(),
            [subscribed("x", 1, 10)],
            "nobody reads y"
        );
        store.delete("default", "b", 1).await.unwrap();
        store.pause("default", "a", 1).await.unwrap();
        assert_eq!(readers(&store, "x").await, ["default/a/tx"]);
        store.delete("default", "a", 1).await.unwrap();
        assert_eq!(readers(&store, "x").await, Vec::<String>::new());
        assert_eq!(store.topics_subscribed().await.unwrap(), []);
        store.apply(new("b", "1", &["x"], &[], 50)).await.unwrap();
        assert_eq!(
            store.topics_subscribed().await.unwrap(),
            [subscribed("x", 2, 50)],
            "it starts anew"
        );
    })
    .await;
}

#[tokio::test]
async fn a_first_subscription_needs_its_starts() {
    each(|store| async move {
        let without = NewVersion {
            starts: Vec::new(),
            ..new("a", "1", &["x"], &[], 0)
        };
        let refused = store.apply(without.clone()).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
        assert_eq!(store.active("default", "a").await.unwrap(), None);
        store.apply(new("b", "1", &["x"], &[], 0)).await.unwrap();
        store.apply(without).await.unwrap();

        store.apply(new("c", "1", &["z"], &[], 0)).await.unwrap();
        store.apply(new("c", "2", &[], &[], 0)).await.unwrap();
        let refused = back(&store, "c", &[]).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
        let version = store.before("default", "c", None).await.unwrap();
        let went = back(&store, "c", &[starts("z", 7)]).await.unwrap();
        assert_eq!(went.version, version);
        assert_eq!(
            store.topics_subscribed().await.unwrap()[1],
            subscribed("z", 2, 7)
        );
        assert_eq!(readers(&store, "z").await, ["default/c/tz"]);
    })
    .await;
}

#[tokio::test]
async fn circles_are_refused() {
    each(|store| async move {
        let way = async |new: NewVersion| match store.apply(new).await {
            Err(StoreError::Circle { way, .. }) => way,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            way(new("g", "1", &["a"], &["a"], 0)).await,
            "topic \"a\" → graph \"g\" → topic \"a\""
        );
        store.apply(new("g", "1", &["a"], &["b"], 0)).await.unwrap();
        store
            .apply(new("h", "1", &["b"], &["c", "d"], 0))
            .await
            .unwrap();
        store.apply(new("i", "1", &["c"], &["e"], 0)).await.unwrap();
        assert_eq!(
            way(new("j", "1", &["e"], &["a"], 0)).await,
            "topic \"e\" → graph \"j\" → topic \"a\" → graph \"g\" → topic \"b\" → graph \"h\" → topic \"c\" → graph \"i\" → topic \"e\""
        );
        assert_eq!(
            store.active("default", "j").await.unwrap(),
            None,
            "nothing of it stays"
        );
        // what the graph itself wrote before does not count any more, until it goes back to it
        store.apply(new("g", "2", &["a"], &["z"], 0)).await.unwrap();
        store.apply(new("j", "1", &["e"], &["a"], 0)).await.unwrap();
        let refused = back(&store, "g", &[]).await;
        assert!(
            matches!(refused, Err(StoreError::Circle { .. })),
            "{refused:?}"
        );
        // a deleted graph hands nothing on
        store.delete("default", "h", 1).await.unwrap();
        store.apply(new("k", "1", &["c"], &["b"], 0)).await.unwrap();
        let other = NewVersion {
            tenant: "other".to_owned(),
            ..new("l", "1", &["m"], &["n"], 0)
        };
        store.apply(other).await.unwrap();
        assert_eq!(
            way(new("o", "1", &["n"], &["m"], 0)).await,
            "topic \"n\" → graph \"o\" → topic \"m\" → a graph of another tenant → topic \"n\""
        );
    })
    .await;
}
