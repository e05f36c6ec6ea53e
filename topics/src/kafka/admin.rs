//! What an operator asks of a cluster: is it there, is it new enough, which topics has it.
//!
//! Every call waits a bounded time and says in its error what the client last heard, such as a refused connection or a
//! wrong password. Nothing is written unless a call's name says so.

pub mod plan;
pub mod probe;
mod topics;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::KafkaConfig;
use super::client::{configured, logged};
use crate::error::LogError;
use crate::log::Result;
pub use wanted::wanted;

/// The first version of TxnOffsetCommit that carries the group's generation (KIP-447, Kafka 2.5). Below it a member that
/// has lost its partitions could still commit for them.
const FENCED_OFFSETS: i16 = 3;
const POLL: Duration = Duration::from_millis(20);

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

/// What the client heard from librdkafka since it was made.
#[derive(Default)]
struct Heard {
    trouble: Mutex<Option<String>>,
    /// The newest TxnOffsetCommit of each broker that was connected to.
    offset_commits: Mutex<BTreeMap<String, i16>>,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka tells what a broker can do in its debug log and nowhere else
        if let Some((broker, newest)) = offset_commit(message) {
            self.offset_commits.lock().insert(broker.to_owned(), newest);
        } else if !matches!(level, RDKafkaLogLevel::Debug) {
            logged(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        // "all brokers are down" says less than what came before it
        let says_more = !reason.contains("brokers are down");
        let mut trouble = self.trouble.lock();
        if says_more || trouble.is_none() {
            *trouble = Some(plain(reason).to_owned());
        }
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
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

    /// Reaches the cluster, or says why it could not within `wait`. A cluster too old for Weir is `Invalid`.
    pub fn cluster(&self, wait: Duration) -> Result<Cluster> {
        let deadline = Instant::now() + wait;
        let metadata = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let found = self.client.client().fetch_metadata(None, left.max(POLL));
            // what was heard meanwhile is told only when polled
            self.client.poll(POLL);
            match found {
                Ok(metadata) if !metadata.brokers().is_empty() => break metadata,
                _ if Instant::now() < deadline => {}
                Ok(_) => return Err(LogError::unavailable("the cluster names no broker")),
                Err(error) => {
                    self.new_enough()?;
                    let heard = self.client.context().trouble.lock().clone();
                    return Err(LogError::unavailable(
                        heard.unwrap_or_else(|| error.to_string()),
                    ));
                }
            }
        };
        self.new_enough()?;
        *self.client.context().trouble.lock() = None;
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

/// `[thrd:a:1/1]: a:1/1:   ApiKey TxnOffsetCommit (28) Versions 0..4`
fn offset_commit(message: &str) -> Option<(&str, i16)> {
    let (before, after) = message.split_once("ApiKey TxnOffsetCommit (28) Versions ")?;
    let newest = after.split_once("..")?.1.trim().parse().ok()?;
    let broker = before.trim().trim_end_matches(':');
    let broker = broker.rsplit_once("]: ").map_or(broker, |(_, name)| name);
    Some((
        broker
            .split_once('/')
            .map_or(broker, |(address, _)| address),
        newest,
    ))
}

/// Without the thread's name in front.
fn plain(reason: &str) -> &str {
    reason.rsplit_once("]: ").map_or(reason, |(_, said)| said)
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
    fn what_a_broker_can_do() {
        let said = "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap:   ApiKey TxnOffsetCommit (28) Versions 0..5";
        assert_eq!(offset_commit(said), Some(("127.0.0.1:9092", 5)));
        assert_eq!(
            offset_commit("[thrd:a]: a:   ApiKey Produce (0) Versions 0..13"),
            None
        );
    }

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
