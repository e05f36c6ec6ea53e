//! The contract suite against a real Kafka.
//!
//! One test and one broker for all cases, whatever runs the tests; several cases at a time, because they mostly wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use topics::{Kafka, KafkaConfig};

use crate::contract::{CASES, World};

#[test]
fn keeps_the_contract() {
    let broker = xtask::services::kafka::Temporary::start().unwrap();
    let next = AtomicUsize::new(0);
    let failed = std::thread::scope(|scope| {
        let run = || {
            let mut failed = Vec::new();
            while let Some((name, case)) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                let log = Arc::new(
                    Kafka::new(KafkaConfig {
                        brokers: broker.brokers().to_owned(),
                        ..KafkaConfig::default()
                    })
                    .unwrap(),
                );
                let world = World {
                    log,
                    name: (*name).to_owned(),
                };
                let started = std::time::Instant::now();
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&world))).is_err()
                {
                    failed.push(*name);
                }
                println!("{name} took {:?}", started.elapsed());
            }
            failed
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{failed:?}");
}
