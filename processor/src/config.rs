//! Settings of the processor.

use std::time::Duration;

use crate::run::Bounds;

/// Settings of the processor; the defaults are for one machine with two cores.
#[derive(Clone, Debug)]
pub struct ProcessorConfig {
    /// Lanes of this process: each has one consumer, one transactional producer and one owner thread.
    pub lanes: usize,
    /// Threads of each lane that run steps.
    pub workers: usize,
    /// The largest batch of one transaction, in records and in bytes of keys and values.
    pub batch_records_max: usize,
    pub batch_bytes_max: usize,
    /// The shortest time from one commit to the next while records keep coming; zero: as soon as the last one is done.
    pub commit_interval: Duration,
    /// Instances that one worker keeps for isolation `batch`.
    pub instances_kept: usize,
    /// Graph versions held in memory.
    pub versions_max: usize,
    /// Graph names whose active version is held in memory.
    pub graphs_max: usize,
    /// The largest result record; a segment whose outputs come to more fails.
    pub result_bytes_max: usize,
    pub bounds: Bounds,
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            lanes: 2,
            workers: 1,
            batch_records_max: 500,
            batch_bytes_max: 4 << 20,
            commit_interval: Duration::from_millis(5),
            instances_kept: 64,
            versions_max: 1_000,
            graphs_max: 100_000,
            result_bytes_max: 960 << 10,
            bounds: Bounds::default(),
        }
    }
}
