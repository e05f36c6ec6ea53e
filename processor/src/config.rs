//! Settings of the processor.

use std::time::Duration;

use crate::run::Bounds;

/// Settings of the processor; the defaults are for one machine with two cores.
#[derive(Clone, Debug)]
pub struct ProcessorConfig {
    /// Lanes of this process: each has one consumer, one transactional producer and one owner thread.
    pub lanes: usize,
    /// What their transactional ids are made of, one for each lane: the same after a restart, and no two processes of a
    /// cluster with the same. Empty: `0`, `1`, … for the one process of a log.
    pub slots: Vec<String>,
    /// Lanes beside them that read `weir.hops` alone, while `lanes` read `weir.triggers` alone; 0: every lane reads both.
    /// Kafka's sticky assignor balances a group's partitions by their number over all topics, so that one lane may get all
    /// of the triggers and another one all of the hops: with lanes of their own each topic is spread evenly.
    pub hop_lanes: usize,
    /// Lanes beside all these that read the topics of users which graphs ask for; at most as many as `lanes`.
    pub topic_lanes: usize,
    /// How many partitions `weir.parked` has; the processor asks the log.
    pub parked_partitions: u32,
    /// Threads of each lane that run steps.
    pub workers: usize,
    /// Threads of each lane for records that speak HTTP, at most: as many calls may be under way at once.
    pub waiting_max: usize,
    /// The largest transaction, in records taken in and in bytes of their keys and values.
    pub batch_records_max: usize,
    pub batch_bytes_max: usize,
    /// The goal for how long a result waits for its commit: the time from one commit to the next while records keep
    /// coming; a record that finds its lane idle is committed at once. Zero: as soon as the last commit is done.
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
            slots: Vec::new(),
            hop_lanes: 0,
            topic_lanes: 1,
            parked_partitions: 1,
            workers: 1,
            waiting_max: 256,
            batch_records_max: 10_000,
            batch_bytes_max: 8 << 20,
            commit_interval: Duration::from_millis(5),
            instances_kept: 256,
            versions_max: 4_000,
            graphs_max: 100_000,
            result_bytes_max: 960 << 10,
            bounds: Bounds::default(),
        }
    }
}

impl ProcessorConfig {
    /// How many instances may be alive at once: kept ones of all workers, one for each thread that waits, and some that are fresh.
    pub fn instances(&self) -> u32 {
        let lanes = self.lanes.max(1) + self.hop_lanes + self.topic_lanes;
        let each = self.workers.max(1) * (self.instances_kept + 2) + self.waiting_max * 2;
        u32::try_from(lanes * each + 64).unwrap_or(u32::MAX)
    }

    /// Each lane's slot and what it reads.
    pub(crate) fn lanes(&self) -> Vec<(String, Reads)> {
        let slots: Vec<String> = if self.slots.is_empty() {
            (0..self.lanes.max(1))
                .map(|lane| lane.to_string())
                .collect()
        } else {
            self.slots.clone()
        };
        // A process has as many lanes of a kind as slots at most: their ids are made of these.
        let first = |count: usize, suffix: &'static str, reads: Reads| {
            let slots = slots.iter().take(count);
            slots.map(move |slot| (format!("{slot}{suffix}"), reads))
        };
        let triggers = match self.hop_lanes {
            0 => Reads::Both,
            _ => Reads::Triggers,
        };
        first(slots.len(), "", triggers)
            .chain(first(self.hop_lanes, "-hops", Reads::Hops))
            .chain(first(self.topic_lanes, "-topics", Reads::Topics))
            .collect()
    }
}

/// Which of Weir's topics a lane reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Both,
    Triggers,
    /// Hops, and records whose delay is over.
    Hops,
    /// The topics of users.
    Topics,
}
