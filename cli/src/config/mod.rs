//! `weir.toml`: one struct per section, its defaults, and what each field means. `load` reads it; `units` are its units.
//!
//! Invariants: a key that is not here is an error; secrets are `Hidden` and never printed, whoever prints a config.

mod hidden;
mod load;
mod nearest;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use hidden::Hidden;
pub(crate) use load::{Overrides, load};
pub(crate) use units::{Flat, duration};

/// Settings of Weir: `weir.toml`. Any of them can come from the environment as `WEIR_SECTION__KEY`, which wins over the
/// file; a flag wins over both.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where HTTP listens. Beyond loopback only with `WEIR_API_KEY`.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// A folder for what may be lost: compiled modules. It holds machine code: let nobody else write to it. With a store
    /// for one machine, large payloads lie in it too, which must not be lost: see `[payloads]`.
    pub(crate) data: PathBuf,
    /// How long a stop may take. What is not finished by then is dropped, and run again by whoever takes over.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) stop_timeout: Duration,
    pub(crate) client: ClientSection,
    pub(crate) kafka: KafkaSection,
    pub(crate) topics: TopicsSection,
    pub(crate) registry: RegistrySection,
    pub(crate) store: StoreSection,
    pub(crate) payloads: PayloadsSection,
    pub(crate) secrets: SecretsSection,
    pub(crate) http: HttpSection,
    pub(crate) ingest: IngestSection,
    pub(crate) processor: ProcessorSection,
    pub(crate) sink: SinkSection,
    pub(crate) control: ControlSection,
    /// Databases that results land in, by the name that graphs' sinks use.
    pub(crate) destinations: BTreeMap<String, DestinationSection>,
    /// What graphs of each tenant may do; until accounts exist there is `default`.
    pub(crate) tenants: BTreeMap<String, TenantSection>,
}

/// The server that commands ask.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientSection {
    /// Such as `http://127.0.0.1:8080`.
    pub(crate) url: Option<String>,
    /// The key that the server asks for.
    pub(crate) api_key: Option<Hidden>,
}

/// The Kafka cluster.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaSection {
    /// `host:port,host:port`
    pub(crate) brokers: Option<String>,
    /// A request that takes longer is given up.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) socket_timeout: Duration,
    /// A transaction that is open longer is aborted by the broker.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) transaction_timeout: Duration,
    /// A member that was not heard of for so long is dead.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) session_timeout: Duration,
    /// A member that has not polled for so long has hung.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) max_poll_interval: Duration,
    /// Settings of librdkafka for every client, such as `"security.protocol" = "SASL_SSL"`. Those that Weir's promises
    /// rest on cannot be changed. From the environment: `WEIR_KAFKA__PROPERTIES__SECURITY_PROTOCOL`.
    pub(crate) properties: BTreeMap<String, Hidden>,
}

/// Weir's own topics.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TopicsSection {
    /// Create the missing ones at the start, instead of waiting for `weir topics apply`.
    pub(crate) create: bool,
}

/// The schema registry. Without one Weir's records carry ids of Weir's own, and topics in Avro cannot be read.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistrySection {
    /// The root of its API, which is Confluent's: `http://registry:8081`; of Apicurio `http://…/apis/ccompat/v7`.
    pub(crate) url: Option<Hidden>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Hidden>,
    /// A request that takes longer is given up.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
}

/// What is at rest: graphs, modules and the inbox.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    /// `postgres://user:password@host/database`, or `sqlite:PATH` for one machine.
    pub(crate) url: Option<Hidden>,
}

/// Payloads above 512 KiB, which no record takes. Every process with ingest, processor or control has to see the same.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PayloadsSection {
    /// `file:PATH`, or `s3://BUCKET/PREFIX`. By default the folder `payloads` in `data`, where the store is SQLite; with
    /// Postgres none, and such payloads are refused.
    pub(crate) url: Option<String>,
    /// Of an S3-compatible service that is not Amazon's, such as `http://minio:9000`.
    pub(crate) endpoint: Option<String>,
    /// By default `us-east-1`.
    pub(crate) region: Option<String>,
    /// Without the two the machine's own role is asked for.
    pub(crate) access_key: Option<Hidden>,
    pub(crate) secret_key: Option<Hidden>,
    /// What was last put longer ago is removed: no shorter than whatever refers to payloads is kept (topics, and outputs of
    /// the history that somebody may still want).
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) retention: Duration,
}

/// Secrets of tenants, which `weir secret set` keeps in the store.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SecretsSection {
    /// What they are sealed with: 64 hex digits, the same for all processes; `openssl rand -hex 32` makes one. Better from the environment:
    /// `WEIR_SECRETS__KEY`. Without it secrets come from the environment of the processes alone.
    pub(crate) key: Option<Hidden>,
}

/// HTTP that steps speak.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    /// Networks that they may reach beside the public internet, such as `["10.1.0.0/16"]`, where a graph grants the host.
    #[serde(deserialize_with = "units::list::deserialize")]
    pub(crate) allow_networks: Vec<String>,
}

/// The ingest role.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IngestSection {
    /// The largest body of one event, such as `25MiB`; above 512 KiB only where there is a place for payloads.
    #[serde(deserialize_with = "units::bytes::deserialize")]
    #[schemars(with = "String")]
    pub(crate) body_bytes_max: usize,
    /// Requests with a body above 512 KiB, or of unknown size, that are held in memory at once; the others wait.
    pub(crate) large_bodies_max: u32,
}

/// The processor role.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProcessorSection {
    /// Each has one consumer, one transactional producer and one owner thread, and reads `weir.triggers`.
    pub(crate) lanes: usize,
    /// Beside them, the same that read `weir.hops`, at most as many; 0: the lanes read both.
    pub(crate) hop_lanes: usize,
    /// Beside them, the same that read the topics of users which graphs ask for, at most as many; 0: none here.
    pub(crate) topic_lanes: usize,
    /// Threads of each lane that run steps.
    pub(crate) workers: usize,
    /// The goal for how long a result waits for its commit.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) commit_interval: Duration,
    /// The largest transaction, in records taken in.
    pub(crate) batch_records_max: usize,
    /// The same in bytes of their keys and values, such as `8MiB`.
    #[serde(deserialize_with = "units::bytes::deserialize")]
    #[schemars(with = "String")]
    pub(crate) batch_bytes_max: usize,
}

/// The sink role.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SinkSection {
    /// The SQLite file of the history, where no destination is marked `history = true`. `[control]` reads it too, so both run on one
    /// machine then.
    pub(crate) path: PathBuf,
}

/// A database that results land in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DestinationSection {
    /// `postgres://user:password@host/database`. Better from the environment: `WEIR_DESTINATIONS__NAME__URL`.
    pub(crate) url: Option<Hidden>,
    /// It holds every tenant's executions, outputs and dead letters; `weir exec` and `weir dlq` read the first such one in
    /// Postgres, else in CQL. Without any, the SQLite file of `[sink]` does.
    pub(crate) history: bool,
    /// How long rows of Weir's own tables are kept, in whole days; 0: for ever.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) retention: Duration,
    /// The same for `weir_outputs` alone; left out: as `retention` says.
    #[serde(deserialize_with = "units::duration::some")]
    #[schemars(with = "Option<String>")]
    pub(crate) retention_outputs: Option<Duration>,
    /// The same for `weir_dead_letters` alone; left out: as `retention` says.
    #[serde(deserialize_with = "units::duration::some")]
    #[schemars(with = "Option<String>")]
    pub(crate) retention_dead_letters: Option<Duration>,
    /// Transactions that are written side by side.
    pub(crate) writers: usize,
    /// The largest write, in results.
    pub(crate) batch_records_max: usize,
    /// How long a write waits for more results after its first one.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(with = "String")]
    pub(crate) interval: Duration,
}

/// The control role. Nothing can be set yet; the section may be there.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ControlSection {}

/// What a tenant's graphs may do. Nothing that is not granted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TenantSection {
    /// Topics that triggers may read, such as `["orders", "shop.*"]`; a `*` at the end stands for any rest.
    #[serde(deserialize_with = "units::list::deserialize")]
    pub(crate) topics_read: Vec<String>,
    /// Topics that sinks may write.
    #[serde(deserialize_with = "units::list::deserialize")]
    pub(crate) topics_write: Vec<String>,
    /// Tables that sinks may write, each with its destination: `["shop/orders", "shop/sales.*"]`.
    #[serde(deserialize_with = "units::list::deserialize")]
    pub(crate) tables: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            data: PathBuf::from(".weir"),
            stop_timeout: Duration::from_secs(20),
            client: ClientSection::default(),
            kafka: KafkaSection::default(),
            topics: TopicsSection::default(),
            registry: RegistrySection::default(),
            store: StoreSection::default(),
            payloads: PayloadsSection::default(),
            secrets: SecretsSection::default(),
            http: HttpSection::default(),
            ingest: IngestSection::default(),
            processor: ProcessorSection::default(),
            sink: SinkSection::default(),
            control: ControlSection::default(),
            destinations: BTreeMap::new(),
            tenants: BTreeMap::new(),
        }
    }
}

impl Default for KafkaSection {
    fn default() -> Self {
        let timeouts = topics::Timeouts::default();
        Self {
            brokers: None,
            socket_timeout: timeouts.socket,
            transaction_timeout: timeouts.transaction,
            session_timeout: timeouts.session,
            max_poll_interval: timeouts.max_poll,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for RegistrySection {
    fn default() -> Self {
        Self {
            url: None,
            user: None,
            password: None,
            timeout: topics::RegistryConfig::default().timeout,
        }
    }
}

impl Default for PayloadsSection {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            retention: store::PAYLOAD_RETENTION,
        }
    }
}

impl Default for IngestSection {
    fn default() -> Self {
        let defaults = ingest::IngestConfig::default();
        Self {
            body_bytes_max: defaults.body_bytes_max as usize,
            large_bodies_max: defaults.large_bodies_max,
        }
    }
}

impl Default for ProcessorSection {
    fn default() -> Self {
        let defaults = processor::ProcessorConfig::default();
        Self {
            lanes: defaults.lanes,
            hop_lanes: 1,
            topic_lanes: defaults.topic_lanes,
            workers: defaults.workers,
            commit_interval: COMMIT_INTERVAL,
            batch_records_max: defaults.batch_records_max,
            batch_bytes_max: defaults.batch_bytes_max,
        }
    }
}

/// On Kafka a transaction costs a few round trips whatever its size.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

impl Default for SinkSection {
    fn default() -> Self {
        Self {
            path: PathBuf::from(".weir/history.db"),
        }
    }
}

impl Default for DestinationSection {
    fn default() -> Self {
        let sink = sink::SinkConfig::new("");
        Self {
            url: None,
            history: false,
            retention: Duration::from_secs(90 * 86_400),
            retention_outputs: None,
            retention_dead_letters: None,
            writers: 2,
            batch_records_max: sink.batch_records_max,
            interval: sink.interval,
        }
    }
}

impl DestinationSection {
    /// What is kept of each table.
    pub(crate) fn kept(&self) -> sink::Retention {
        let kept = |of: Option<Duration>| {
            Some(of.unwrap_or(self.retention)).filter(|kept| !kept.is_zero())
        };
        sink::Retention {
            executions: kept(None),
            outputs: kept(self.retention_outputs),
            dead_letters: kept(self.retention_dead_letters),
        }
    }
}

impl KafkaSection {
    /// What the clients are made with; without brokers there is none.
    pub(crate) fn clients(&self) -> Option<topics::KafkaConfig> {
        let brokers = self.brokers.clone().filter(|brokers| !brokers.is_empty())?;
        Some(topics::KafkaConfig {
            brokers,
            properties: self
                .properties
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
            timeouts: topics::Timeouts {
                socket: self.socket_timeout,
                transaction: self.transaction_timeout,
                session: self.session_timeout,
                max_poll: self.max_poll_interval,
            },
        })
    }
}

impl RegistrySection {
    /// What it is asked with; without a url there is none.
    pub(crate) fn client(&self) -> Option<topics::RegistryConfig> {
        let url = self.url.as_ref().map(Hidden::expose);
        let url = url.filter(|url| !url.is_empty())?;
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Some(topics::RegistryConfig {
            url: url.to_owned(),
            user: self.user.as_deref().and_then(text),
            password: self.password.as_ref().map(Hidden::expose).and_then(text),
            timeout: self.timeout,
        })
    }
}

impl PayloadsSection {
    /// Where payloads are; `None`: nowhere. `data`: the folder of this process, where no other needs to see them.
    pub(crate) fn settings(&self, data: Option<&Path>) -> Option<store::PayloadSettings> {
        let set = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let folder = || Some(format!("file:{}", data?.join("payloads").display()));
        Some(store::PayloadSettings {
            url: set(self.url.as_deref()).or_else(folder)?,
            endpoint: set(self.endpoint.as_deref()),
            region: set(self.region.as_deref()),
            access_key: set(self.access_key.as_ref().map(Hidden::expose)),
            secret_key: set(self.secret_key.as_ref().map(Hidden::expose)),
            retention: self.retention,
        })
    }
}

impl SecretsSection {
    /// What secrets are sealed with.
    pub(crate) fn key(&self) -> Result<Option<store::SecretsKey>, String> {
        let key = self.key.as_ref().map(Hidden::expose);
        let key = key.filter(|key| !key.is_empty());
        key.map(store::SecretsKey::parse)
            .transpose()
            .map_err(|fault| format!("secrets.key: {fault}"))
    }
}

impl HttpSection {
    pub(crate) fn web(&self) -> Result<processor::web::WebConfig, String> {
        let networks = processor::web::Networks::parse(&self.allow_networks);
        let networks = networks.map_err(|fault| format!("http.allow_networks: {fault}"))?;
        Ok(processor::web::WebConfig { networks })
    }
}

impl IngestSection {
    pub(crate) fn config(&self) -> ingest::IngestConfig {
        ingest::IngestConfig {
            body_bytes_max: self.body_bytes_max as u64,
            large_bodies_max: self.large_bodies_max,
            ..ingest::IngestConfig::default()
        }
    }
}

impl ProcessorSection {
    pub(crate) fn lanes(&self) -> processor::ProcessorConfig {
        processor::ProcessorConfig {
            lanes: self.lanes,
            hop_lanes: self.hop_lanes,
            topic_lanes: self.topic_lanes,
            workers: self.workers,
            commit_interval: self.commit_interval,
            batch_records_max: self.batch_records_max,
            batch_bytes_max: self.batch_bytes_max,
            ..processor::ProcessorConfig::default()
        }
    }
}

impl Config {
    /// What tenants may read and write.
    pub(crate) fn grants(&self) -> control::Grants {
        let granted = |(name, tenant): (&String, &TenantSection)| {
            let granted = control::Granted {
                topics_read: tenant.topics_read.clone(),
                topics_write: tenant.topics_write.clone(),
                tables: tenant.tables.clone(),
            };
            (name.clone(), granted)
        };
        self.tenants.iter().map(granted).collect()
    }

    /// The rules that go across fields, and the bounds; in words, with the key.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (kafka, processor) = (&self.kafka, &self.processor);
        let within = |name: &str, value: Duration, least: Duration, most: Duration| {
            if value < least || value > most {
                let (value, least, most) = (Flat(value), Flat(least), Flat(most));
                return Err(format!("{name} is {value}; set it to {least} to {most}"));
            }
            Ok(())
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let quarter = Duration::from_secs(15 * 60);
        within(
            "kafka.socket_timeout",
            kafka.socket_timeout,
            second,
            second * 300,
        )?;
        within(
            "kafka.transaction_timeout",
            kafka.transaction_timeout,
            second,
            quarter,
        )?;
        within("kafka.session_timeout", kafka.session_timeout, second, hour)?;
        within(
            "kafka.max_poll_interval",
            kafka.max_poll_interval,
            kafka.session_timeout,
            hour * 24,
        )?;
        within(
            "registry.timeout",
            self.registry.timeout,
            Duration::from_millis(100),
            second * 60,
        )?;
        within(
            "processor.commit_interval",
            processor.commit_interval,
            Duration::ZERO,
            kafka.transaction_timeout / 2,
        )?;
        let day = hour * 24;
        within(
            "payloads.retention",
            self.payloads.retention,
            day * 8,
            day * 36_500,
        )?;
        self.secrets.key()?;
        self.http.web()?;
        let ingest = self.ingest.config().validate();
        ingest.map_err(|wrong| format!("ingest.{wrong}"))?;
        for (name, value, most) in [
            ("processor.lanes", processor.lanes, 256),
            ("processor.workers", processor.workers, 256),
            (
                "processor.batch_records_max",
                processor.batch_records_max,
                1 << 20,
            ),
            (
                "processor.batch_bytes_max",
                processor.batch_bytes_max,
                1 << 30,
            ),
        ] {
            if value == 0 || value > most {
                return Err(format!("{name} is {value}; set it to 1 to {most}"));
            }
        }
        for (name, destination) in &self.destinations {
            self.validate_destination(name, destination)?;
        }
        for (name, tenant) in &self.tenants {
            let fault = tenant.tables.iter().find_map(|table| {
                let fault = control::Granted::table_fault(table)?;
                Some(format!("tenants.{name}.tables: {fault}"))
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            for (key, topics) in [
                ("topics_read", &tenant.topics_read),
                ("topics_write", &tenant.topics_write),
            ] {
                let fault = topics
                    .iter()
                    .find_map(|topic| control::Granted::fault(topic));
                if let Some(fault) = fault {
                    return Err(format!(
                        "tenants.{name}.{key}: {fault}; write names of topics, a * at the end for any rest"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Config {
    fn validate_destination(
        &self,
        name: &str,
        destination: &DestinationSection,
    ) -> Result<(), String> {
        let fault = |what: String| Err(format!("destinations.{name}{what}"));
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(known) {
            return fault(": no name for a destination; take small letters, digits and -".into());
        }
        if name == HISTORY && !self.destinations.values().any(|one| one.history) {
            return fault(
                ": the name of the history in SQLite; mark a destination with history = true, or take another name".into(),
            );
        }
        if destination
            .url
            .as_ref()
            .is_none_or(|url| url.expose().is_empty())
        {
            let key = name.to_uppercase().replace('-', "_");
            return fault(format!(
                ".url is missing; set it there or as WEIR_DESTINATIONS__{key}__URL"
            ));
        }
        for (key, value, most) in [
            ("writers", destination.writers, 64),
            ("batch_records_max", destination.batch_records_max, 10_000),
        ] {
            if value == 0 || value > most {
                return fault(format!(".{key} is {value}; set it to 1 to {most}"));
            }
        }
        if destination.interval > Duration::from_secs(10) {
            return fault(".interval is longer than 10s; set it to 0s to 10s".into());
        }
        Ok(())
    }
}

/// The name of the history in SQLite.
pub(crate) const HISTORY: &str = "history";

/// The JSON Schema of `weir.toml`.
pub(crate) fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests;
