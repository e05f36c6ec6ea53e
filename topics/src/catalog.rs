//! Every topic that Weir owns, as topics.toml lists them, and the constants by which code names them.
//!
//! A topic's name is written twice, here and in topics.toml, and a test holds the two together. User topics are not here.

use std::sync::Arc;

use serde::Deserialize;

use crate::log::Topic;

/// What the names of all of them begin with.
pub const PREFIX: &str = "weir.";

pub const TRIGGERS: &str = "weir.triggers";
pub const HOPS: &str = "weir.hops";
pub const DELAYS_5S: &str = "weir.delays.5s";
pub const DELAYS_1M: &str = "weir.delays.1m";
pub const DELAYS_10M: &str = "weir.delays.10m";
pub const DELAYS_1H: &str = "weir.delays.1h";
pub const PARKED: &str = "weir.parked";
pub const RESULTS: &str = "weir.results";
pub const PROGRESS: &str = "weir.progress";
pub const DEAD_LETTERS: &str = "weir.dead-letters";
pub const GRAPHS: &str = "weir.graphs";
pub const POSITIONS: &str = "weir.positions";

/// The delay topics with their delays in milliseconds, shortest first.
pub const DELAYS: [(&str, i64); 4] = [
    (DELAYS_5S, 5_000),
    (DELAYS_1M, 60_000),
    (DELAYS_10M, 600_000),
    (DELAYS_1H, 3_600_000),
];

/// Whether a topic is one of Weir's own.
pub fn is_own(topic: &str) -> bool {
    topic.starts_with(PREFIX)
}

/// Whether what lies on a topic waits there, and has come from another one.
pub fn holds_detours(topic: &str) -> bool {
    is_own(topic) && (topic == PARKED || delay_ms(topic).is_some())
}

/// How long a record waits on a topic of delays; `None`: it is none.
pub fn delay_ms(topic: &str) -> Option<i64> {
    DELAYS
        .iter()
        .find(|(name, _)| *name == topic)
        .map(|(_, delay_ms)| *delay_ms)
}

/// The group that reads Weir's own topics.
pub const GROUP_PROCESSORS: &str = "weir.processors";
/// The group that reads all user topics.
pub const GROUP_TOPICS: &str = "weir.topics";
/// The group that spreads the shards of a kind of source over processes is this followed by the kind.
pub const GROUP_SOURCES_PREFIX: &str = "weir.sources.";
/// The group of a destination's sinks is this followed by its name.
pub const GROUP_SINKS_PREFIX: &str = "weir.sink.";
/// Whoever reads without a group names this one: Kafka's client wants a name, but never joins it.
pub const GROUP_READERS: &str = "weir.reader";
/// The transactional id of a lane is this followed by its slot.
pub const LANE_PREFIX: &str = "weir.processors-";
/// The transactional id of a source's shard is this followed by the shard.
pub const SOURCE_PREFIX: &str = "weir-source-";
/// `weir doctor --write` makes a topic of this name and a number for a moment.
pub const DOCTOR_PREFIX: &str = "weir.doctor.";

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cleanup {
    /// They are deleted by age and size.
    Delete,
    /// The last value of each key is kept.
    Compact,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    pub name: Topic,
    /// What the key is, in words.
    #[serde(default)]
    pub key: String,
    /// What the value is, in words.
    #[serde(default)]
    pub value: String,
    /// On Kafka.
    pub partitions: u32,
    /// On the embedded log.
    pub partitions_embedded: u32,
    pub cleanup: Cleanup,
    /// How old a record of a `delete` topic becomes; `None`: any age. (In the file: `7d`.)
    #[serde(default, rename = "retention", deserialize_with = "units::duration_ms")]
    pub retention_ms: Option<u64>,
    /// How large a partition of a `delete` topic becomes; `None`: any size. (In the file: `1GiB`.)
    #[serde(default, deserialize_with = "units::bytes")]
    pub retention_bytes: Option<u64>,
    /// The largest record: key, value and headers. (In the file: `1MiB`.)
    #[serde(rename = "record_max", deserialize_with = "units::bytes_required")]
    pub record_max_bytes: u64,
    #[serde(default)]
    pub writers: Vec<String>,
    #[serde(default)]
    pub readers: Vec<String>,
}

impl TopicSpec {
    /// A `delete` topic that keeps everything, with as many partitions on either log.
    pub fn new(name: &str, partitions: u32) -> Self {
        Self {
            name: Arc::from(name),
            key: String::new(),
            value: String::new(),
            partitions,
            partitions_embedded: partitions,
            cleanup: Cleanup::Delete,
            retention_ms: None,
            retention_bytes: None,
            record_max_bytes: 1 << 20,
            writers: Vec::new(),
            readers: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    topic: Vec<TopicSpec>,
}

/// All topics, in the file's order.
pub fn topics() -> Vec<TopicSpec> {
    let catalog: Catalog =
        toml::from_str(include_str!("../topics.toml")).expect("topics.toml is parsed by a test");
    catalog.topic
}

/// Typed units: `5s`, `10m`, `1h`, `7d`; `64KiB`, `1MiB`, `1GiB`.
pub(crate) mod units {
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn duration_ms<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let text = String::deserialize(from)?;
        scaled(
            &text,
            &[
                ("ms", 1),
                ("s", 1_000),
                ("m", 60_000),
                ("h", 3_600_000),
                ("d", 86_400_000),
            ],
        )
        .map(Some)
        .ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is no duration; write it as 5s, 10m, 1h or 7d"
            ))
        })
    }

    pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        bytes_required(from).map(Some)
    }

    pub(super) fn bytes_required<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        scaled(
            &text,
            &[
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("B", 1),
            ],
        )
        .ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is no size; write it as 64KiB, 1MiB or 1GiB"
            ))
        })
    }

    fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let factor = units.iter().find(|(name, _)| *name == unit)?.1;
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_file_agree() {
        let listed: Vec<String> = topics().iter().map(|spec| spec.name.to_string()).collect();
        assert_eq!(
            listed,
            [
                TRIGGERS,
                HOPS,
                DELAYS_5S,
                DELAYS_1M,
                DELAYS_10M,
                DELAYS_1H,
                PARKED,
                RESULTS,
                PROGRESS,
                DEAD_LETTERS,
                GRAPHS,
                POSITIONS
            ]
        );
    }

    /// A change of a topic is a change that an operator has to make too: it shall be seen in review.
    #[test]
    fn snapshot() {
        let table: String = topics()
            .iter()
            .map(|t| {
                format!(
                    "{} {}/{} {:?} {:?} {:?} {} {} > {}\n",
                    t.name,
                    t.partitions,
                    t.partitions_embedded,
                    t.cleanup,
                    t.retention_ms,
                    t.retention_bytes,
                    t.record_max_bytes,
                    t.writers.join(","),
                    t.readers.join(",")
                )
            })
            .collect();
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_wrong_unit_is_named() {
        let wrong = include_str!("../topics.toml").replacen("\"7d\"", "\"7 days\"", 1);
        let error = toml::from_str::<Catalog>(&wrong)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("\"7 days\" is no duration"), "{error}");
    }
}
