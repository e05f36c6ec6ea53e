//! Where records travel: the catalog of topics, the `Log` port, and its two implementations: Kafka, and the embedded
//! log in one file (or in memory). One contract suite (`tests/it/contract.rs`) runs against both.
//!
//! Invariants: only `kafka` knows rdkafka, only `embedded` knows how the file looks; both keep the promises of `log`.
//! This crate does not know what a record means; `registry`, the only place that knows the schema registry, hands compiled
//! schemas out and registers those of Weir's own records.

pub mod catalog;
pub mod embedded;
pub mod error;
pub mod kafka;
pub mod log;
pub mod partitioner;
pub mod registry;
pub mod shards;

pub use catalog::TopicSpec;
pub use embedded::Embedded;
pub use error::{Disposition, LogError};
pub use kafka::{Kafka, KafkaConfig, Timeouts};
pub use log::{
    Append, Appended, Assigned, Consumer, Fetched, Join, Lane, Log, Outgoing, Partition, Polled,
    Position, Record, Result, Source, Topic, TopicId,
};
pub use registry::{Known, Registry, RegistryConfig, RegistryError};
pub use shards::{Mine, Shards};
