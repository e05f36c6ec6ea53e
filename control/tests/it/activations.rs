//! The source that copies changes to `weir.graphs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::Activations;
use schemas::activation::Activation;
use store::{NewVersion, Store};
use tokio::runtime::Runtime;
use topics::{Embedded, Log, Partition, Polled, catalog};

struct Bench {
    runtime: Runtime,
    store: Store,
    log: Arc<dyn Log>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = runtime.block_on(Store::memory()).unwrap();
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&catalog::topics()).unwrap();
        Self {
            runtime,
            store,
            log,
        }
    }

    fn apply(&self, graph: &str, text: &str) -> i64 {
        let canonical = text.as_bytes().to_vec();
        let new = NewVersion {
            tenant: "default".into(),
            graph: graph.into(),
            version: schemas::graph::version(&canonical),
            canonical,
            source: String::new(),
            webhooks: Vec::new(),
            at_ms: 1,
            ..NewVersion::default()
        };
        self.runtime.block_on(self.store.apply(new)).unwrap().epoch
    }

    fn start(&self) -> Activations {
        Activations::start(
            self.log.clone(),
            self.store.clone(),
            self.runtime.handle().clone(),
        )
        .unwrap()
    }

    /// All that stands in the topic, read until the given epoch has come.
    fn read_to(&self, epoch: i64) -> Vec<Activation> {
        let partition = Partition {
            topic: catalog::GRAPHS.into(),
            number: 0,
        };
        let mut reader = self.log.reader(vec![(partition, 0)], 100).unwrap();
        let mut read: Vec<Activation> = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while read.last().is_none_or(|last| last.epoch < epoch) {
            assert!(
                Instant::now() < deadline,
                "epoch {epoch} has not come: {read:?}"
            );
            let Polled::Records(records) = reader.poll(Duration::from_millis(50)).unwrap() else {
                continue;
            };
            for fetched in records {
                let activation = Activation::decode(&fetched.record.value.unwrap()).unwrap();
                assert_eq!(fetched.record.key.unwrap(), activation.key());
                read.push(activation);
            }
        }
        read
    }
}

fn epochs(activations: &[Activation]) -> Vec<i64> {
    activations.iter().map(|a| a.epoch).collect()
}

#[test]
fn changes_are_copied_in_order_each_once_over_restarts() {
    let bench = Bench::new();
    let mut expected = vec![bench.apply("a", "1"), bench.apply("b", "2")];
    let source = bench.start();
    assert_eq!(epochs(&bench.read_to(expected[1])), expected);
    expected.push(bench.apply("a", "3"));
    source.wake();
    bench.read_to(expected[2]);
    drop(source);

    expected.push(bench.apply("c", "4"));
    let mut source = bench.start();
    let read = bench.read_to(expected[3]);
    assert_eq!(epochs(&read), expected, "nothing twice after a restart");
    assert_eq!(
        read.iter().map(|a| a.graph.as_str()).collect::<Vec<_>>(),
        ["a", "b", "a", "c"]
    );
    source.stop();
    assert_eq!((source.epoch(), source.check()), (expected[3], Ok(())));
}

/// Another owner takes the shard over with the position that this one left, and copies on; nothing stands there twice.
#[test]
fn a_fenced_source_copies_nothing_more() {
    let bench = Bench::new();
    let first = bench.apply("a", "1");
    let source = bench.start();
    bench.read_to(first);
    let (mut other, position) = bench.log.source("graphs-0").unwrap();
    assert_eq!(position, Some(Bytes::from(first.to_string())));
    let second = bench.apply("a", "2");
    let record = topics::Record {
        key: Some(Bytes::from_static(b"default/a")),
        value: Some(
            Activation {
                tenant: "default".into(),
                graph: "a".into(),
                version: schemas::graph::version(b"2"),
                epoch: second,
                kind: schemas::activation::ActivationKind::Applied,
                state: schemas::activation::ActivationState::Active,
            }
            .encode(),
        ),
        ..topics::Record::default()
    };
    other
        .commit(
            vec![topics::Outgoing {
                topic: catalog::GRAPHS.into(),
                partition: Some(0),
                record,
            }],
            Bytes::from(second.to_string()),
        )
        .unwrap();
    source.wake();
    let third = bench.apply("a", "3");
    source.wake();
    // It is fenced, opens the shard anew after a while, and goes on from the other's position.
    assert_eq!(epochs(&bench.read_to(third)), [first, second, third]);
}

/// Each change says what the graph is after it.
#[test]
fn every_kind_of_change_is_copied_with_its_state() {
    use schemas::activation::{ActivationKind as Kind, ActivationState as State};
    let bench = Bench::new();
    bench.apply("a", "1");
    let last = bench.runtime.block_on(async {
        let store = &bench.store;
        store.pause("default", "a", 2).await.unwrap();
        let resumed = store.resume("default", "a", 3).await.unwrap();
        assert!(store.settled("default", "a", resumed.epoch).await.unwrap());
        store.delete("default", "a", 4).await.unwrap().epoch
    });
    let _source = bench.start();
    let copied: Vec<(Kind, State)> = bench
        .read_to(last)
        .into_iter()
        .map(|activation| (activation.kind, activation.state))
        .collect();
    assert_eq!(
        copied,
        [
            (Kind::Applied, State::Active),
            (Kind::Paused, State::Paused),
            (Kind::Resumed, State::Resuming),
            (Kind::Settled, State::Active),
            (Kind::Deleted, State::Deleted),
        ]
    );
}
