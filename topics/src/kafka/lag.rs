//! How far a member is behind, from librdkafka's statistics: the lag against the last stable offset, and whether an open
//! transaction keeps that from moving.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use serde::Deserialize;

/// A last stable offset that stays behind what has been written, and does not move, for so long is an alarm: somebody
/// keeps a transaction open, and nobody reads on before it ends or times out.
const STALLED: Duration = Duration::from_secs(5);

/// The part of the statistics that is read (librdkafka's STATISTICS.md).
#[derive(Deserialize)]
struct Statistics {
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Clone, Copy, Deserialize)]
struct PartitionStatistics {
    partition: i32,
    fetch_state: FetchState,
    /// The next to be given to the application.
    app_offset: i64,
    /// The high watermark and the last stable offset, as the last fetch told them.
    hi_offset: i64,
    ls_offset: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FetchState {
    Active,
    #[serde(other)]
    Other,
}

/// What is remembered of each partition: its last stable offset and since when it has not moved though it could.
#[derive(Default)]
pub(super) struct Lags {
    stuck: HashMap<(String, i32), (i64, Instant, bool)>,
}

impl Lags {
    /// Takes one round of statistics in.
    pub(super) fn take(&mut self, group: &str, json: &[u8]) {
        match serde_json::from_slice::<Statistics>(json) {
            Ok(statistics) => self.look(group, &statistics, Instant::now()),
            Err(error) => tracing::debug!(%error, "librdkafka's statistics"),
        }
    }

    fn look(&mut self, group: &str, statistics: &Statistics, now: Instant) {
        let mut seen = Vec::new();
        for (topic, found) in &statistics.topics {
            for at in found.partitions.values() {
                if at.partition < 0 || at.fetch_state != FetchState::Active || at.ls_offset < 0 {
                    continue;
                }
                let labels = [
                    ("group", group.to_owned()),
                    ("topic", topic.clone()),
                    ("partition", at.partition.to_string()),
                ];
                if at.app_offset >= 0 {
                    let lag = (at.ls_offset - at.app_offset).max(0);
                    gauge!("weir_consumer_lag_records", &labels).set(lag as f64);
                }
                let age = self.age(topic, *at, now);
                gauge!("weir_open_transaction_age_seconds", &labels).set(age.as_secs_f64());
                seen.push((topic.clone(), at.partition));
            }
        }
        self.stuck.retain(|key, _| seen.contains(key));
    }

    /// For how long an open transaction has held the partition's readers up.
    fn age(&mut self, topic: &str, at: PartitionStatistics, now: Instant) -> Duration {
        let key = (topic.to_owned(), at.partition);
        if at.hi_offset <= at.ls_offset {
            self.stuck.remove(&key);
            return Duration::ZERO;
        }
        let (offset, since, alarmed) = self.stuck.entry(key).or_insert((at.ls_offset, now, false));
        if *offset != at.ls_offset {
            (*offset, *since, *alarmed) = (at.ls_offset, now, false);
        }
        let age = now.saturating_duration_since(*since);
        if age >= STALLED && !*alarmed {
            *alarmed = true;
            counter!("weir_alarms_total", "alarm" => "open-transaction").increment(1);
            tracing::error!(
                alarm = "open-transaction",
                "a transaction that is open at {topic}/{}@{} has kept its readers for {age:?}; `kafka-transactions.sh find-hanging` names its producer",
                at.partition,
                at.ls_offset
            );
        }
        age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_transaction_ages_until_the_stable_offset_moves() {
        let mut lags = Lags::default();
        let now = Instant::now();
        let at = |ls_offset, hi_offset| PartitionStatistics {
            partition: 0,
            fetch_state: FetchState::Active,
            app_offset: 0,
            hi_offset,
            ls_offset,
        };
        let second = Duration::from_secs(1);
        assert_eq!(lags.age("t", at(10, 10), now), Duration::ZERO);
        assert_eq!(lags.age("t", at(10, 12), now), Duration::ZERO);
        assert_eq!(lags.age("t", at(10, 15), now + 3 * second), 3 * second);
        assert_eq!(lags.age("t", at(12, 15), now + 4 * second), Duration::ZERO);
        assert_eq!(lags.age("t", at(12, 15), now + 10 * second), 6 * second);
        assert_eq!(lags.age("t", at(15, 15), now + 11 * second), Duration::ZERO);
    }

    #[test]
    fn reads_what_librdkafka_writes() {
        let json = br#"{"name":"x","topics":{"weir.triggers":{"topic":"weir.triggers","partitions":{
            "0":{"partition":0,"fetch_state":"active","app_offset":7,"hi_offset":9,"ls_offset":9,"other":1},
            "-1":{"partition":-1,"fetch_state":"none","app_offset":-1001,"hi_offset":-1001,"ls_offset":-1001}}}}}"#;
        let statistics: Statistics = serde_json::from_slice(json).unwrap();
        assert_eq!(statistics.topics["weir.triggers"].partitions.len(), 2);
        Lags::default().take("weir.processors", json);
    }
}
