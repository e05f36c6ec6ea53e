//! Shards over the members of a group, on the embedded log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use topics::{Embedded, Log, Mine, Shards, TopicSpec, catalog, shards};

const KIND: &str = "test";
const COUNT: u32 = 8;

/// What runs just now: (process, shard).
type Running = Arc<Mutex<BTreeSet<(u32, u32)>>>;

fn log() -> Arc<dyn Log> {
    let log = Embedded::memory();
    log.create_topics(&[TopicSpec::new(catalog::POSITIONS, 12)])
        .unwrap();
    Arc::new(log)
}

fn join(log: &Arc<dyn Log>, running: &Running, process: u32) -> Shards {
    let running = running.clone();
    let work = move |shard, mine: Mine| {
        assert!(running.lock().insert((process, shard)));
        while !mine.is_over() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        running.lock().remove(&(process, shard));
    };
    Shards::start(log.clone(), KIND, COUNT, Arc::new(work)).unwrap()
}

fn until(running: &Running, so: impl Fn(&BTreeSet<(u32, u32)>) -> bool) {
    while !so(&running.lock()) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn all(running: &BTreeSet<(u32, u32)>) -> bool {
    let shards: Vec<u32> = running.iter().map(|(_, shard)| *shard).collect();
    let distinct: BTreeSet<u32> = shards.iter().copied().collect();
    assert_eq!(
        shards.len(),
        distinct.len(),
        "a shard runs twice: {running:?}"
    );
    distinct.len() == COUNT as usize
}

#[test]
fn each_shard_runs_in_one_process_whoever_comes_or_goes() {
    let (log, running) = (log(), Running::default());
    let first = join(&log, &running, 1);
    until(&running, all);
    let second = join(&log, &running, 2);
    until(&running, |running| {
        all(running) && running.iter().any(|(process, _)| *process == 2)
    });
    let told = second.mine();
    let told = told.borrow().clone().unwrap();
    assert!(!told.is_empty() && told.len() < COUNT as usize, "{told:?}");
    first.stop();
    assert!(running.lock().iter().all(|(process, _)| *process == 2));
    until(&running, all);
    drop(second);
    assert!(running.lock().is_empty());
}

/// The shards are where their positions are: opening one is no matter of the group.
#[test]
fn a_shard_that_has_moved_goes_on_from_its_position() {
    let log = log();
    let numbers = Arc::new(Mutex::new(Vec::new()));
    for process in 0..3_u8 {
        let (opening, kept) = (log.clone(), numbers.clone());
        let work = move |shard, mine: Mine| {
            let (mut source, position) = opening.source(&shards::name(KIND, shard)).unwrap();
            kept.lock().push(position.map(|position| position[0]));
            source
                .commit(Vec::new(), Bytes::from(vec![process]))
                .unwrap();
            while !mine.is_over() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        };
        let shards = Shards::start(log.clone(), KIND, 1, Arc::new(work)).unwrap();
        while numbers.lock().len() <= usize::from(process) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        shards.stop();
    }
    assert_eq!(*numbers.lock(), [None, Some(0), Some(1)]);
}
