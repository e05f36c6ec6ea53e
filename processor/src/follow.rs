//! Follows `weir.graphs`: every change of a graph, in epoch order, to whoever holds something made of graphs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemas::activation::Activation;
use topics::catalog::GRAPHS;
use topics::{Log, Partition, Polled};

const WAIT: Duration = Duration::from_millis(500);

/// Runs until `stop`; wants a thread of its own. Starts at the log's end: what is older is in the store, where a miss asks.
pub fn follow(log: &dyn Log, changed: &dyn Fn(&Activation), stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        if let Err(e) = follow_once(log, changed, stop) {
            tracing::warn!("following {GRAPHS} failed and starts over: {e}");
            std::thread::sleep(WAIT);
        }
    }
}

fn follow_once(
    log: &dyn Log,
    changed: &dyn Fn(&Activation),
    stop: &AtomicBool,
) -> Result<(), topics::LogError> {
    let partition = Partition {
        topic: GRAPHS.into(),
        number: 0,
    };
    let (start, end) = log.offsets(&partition)?;
    // The last few again: whoever starts over misses nothing, and following a change twice does no harm.
    let mut reader = log.reader(vec![(partition, start.max(end - 100))], 1_000)?;
    while !stop.load(Ordering::Acquire) {
        let Polled::Records(records) = reader.poll(WAIT)? else {
            continue;
        };
        for fetched in records {
            let Some(value) = fetched.record.value else {
                continue;
            };
            match Activation::decode(&value) {
                Ok(change) => {
                    changed(&change);
                    metrics::gauge!("weir_graphs_epoch").set(change.epoch as f64);
                }
                Err(e) => tracing::error!(
                    "{GRAPHS}/{}@{} is no activation: {e}",
                    fetched.partition.number,
                    fetched.offset
                ),
            }
        }
    }
    Ok(())
}
