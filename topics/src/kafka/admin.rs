//! What an operator asks of a cluster: is it there, is it new enough, which topics has it.
//!
//! Every call waits a bounded time and says in its error what the client last heard, such as a refused connection or a
//! wrong password. Nothing is written unless a call's name says so.

pub mod granted;
mod heard;
pub mod places;
pub mod plan;
pub mod probe;
mod topics;
mod wanted;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::KafkaConfig;
use super::client::configured;
use crate::error::LogError;
use crate::log::Result;
use heard::Heard;
pub use wanted::wanted;

/// The first version of TxnOffsetCommit that carries the group's generation (KIP-447, Kafka 2.5). Below it a member that
/// has lost its partitions could still commit for them.
const FENCED_OFFSETS: i16 = 3;
const POLL: Duration = Duration::from_millis(20);
/// How long the brokers are asked before it is looked whether asking on is of any use; then twice as long, and so on.
const ASK: Duration = Duration::from_secs(1);

/// An operator's view of a cluster. Connects lazily.
pub struct Admin {
    settings: ClientConfig,
    client: BaseProducer<Heard>,
}

/// A cluster, as one of its brokers describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Given when the cluster was made; `None`: too old to say.
    pub id: Option<String>,
    pub brokers: Vec<Broker>,
    /// All topics that this client may see.
    pub topics: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    /// `host:port`, as it tells clients.
    pub address: String,
}

impl Admin {
    pub fn new(config: &KafkaConfig) -> Result<Self> {
        let mut settings: ClientConfig = configured(config, &[("debug", "feature")]);
        settings.set_log_level(RDKafkaLogLevel::Debug);
        let client = settings
            .create_with_context(Heard::default())
            .map_err(|error| LogError::invalid(setting(error)))?;
        Ok(Self {
            settings: configured(config, &[]),
            client,
        })
    }

    /// Reaches the cluster, or says why it could not within `wait`; sooner if brokers and settings do not fit together. A
    /// cluster too old for Weir is `Invalid`.
    pub fn cluster(&self, wait: Duration) -> Result<Cluster> {
        let deadline = Instant::now() + wait;
        let mut ask = ASK;
        let metadata = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let found = self
                .client
                .client()
                .fetch_metadata(None, left.min(ask).max(POLL));
            ask *= 2;
            // what was heard meanwhile is told only when polled
            self.client.poll(POLL);
            match found {
                Ok(metadata) if !metadata.brokers().is_empty() => break metadata,
                _ if Instant::now() < deadline && !self.settled() => {}
                Ok(_) => return Err(LogError::unavailable("the cluster names no broker")),
                Err(error) => {
                    self.new_enough()?;
                    let heard = self.client.context().trouble();
                    return Err(LogError::unavailable(
                        heard.map_or_else(|| error.to_string(), |trouble| trouble.said),
                    ));
                }
            }
        };
        self.new_enough()?;
        self.client.context().forget_trouble();
        let broker = |broker: &rdkafka::metadata::MetadataBroker| Broker {
            id: broker.id(),
            address: format!("{}:{}", broker.host(), broker.port()),
        };
        Ok(Cluster {
            id: self.client.client().fetch_cluster_id(POLL),
            brokers: metadata.brokers().iter().map(broker).collect(),
            topics: metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none())
                .map(|topic| topic.name().to_owned())
                .collect(),
        })
    }

    fn settled(&self) -> bool {
        let trouble = self.client.context().trouble();
        trouble.is_some_and(|trouble| trouble.settled)
    }

    /// Every broker that was connected to so far takes offsets that are fenced by the group's generation.
    fn new_enough(&self) -> Result<()> {
        let seen = self.client.context().offset_commits.lock();
        match seen.iter().find(|(_, newest)| **newest < FENCED_OFFSETS) {
            None => Ok(()),
            Some((broker, newest)) => Err(LogError::invalid(format!(
                "the broker {broker} is too old: it has TxnOffsetCommit {newest}, and Weir needs {FENCED_OFFSETS} (Kafka 2.5, KIP-447), \
                 or results would be lost or doubled when processors come and go; upgrade the cluster"
            ))),
        }
    }
}

/// A setting that librdkafka refuses; its value may be a secret.
fn setting(error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let reason = reason.replace(&format!("\"{value}\""), "the value");
            format!("kafka setting \"{name}\": {reason}")
        }
        error => format!("kafka settings: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_setting_keeps_its_value() {
        let config = KafkaConfig {
            brokers: "127.0.0.1:1".to_owned(),
            properties: vec![("security.protocol".to_owned(), "hunter2".to_owned())],
            ..KafkaConfig::default()
        };
        let error = Admin::new(&config)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            error.contains("security.protocol") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
