//! Topics as they are on the cluster, and what changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;

use super::granted::Operation;
use super::plan::{Change, Current};
use super::{Admin, Heard};
use crate::error::LogError;
use crate::kafka::client::block_on;
use crate::log::Result;

const WAIT: Duration = Duration::from_secs(30);
/// A broker has heard of a new topic after so long.
const HEARD: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

impl Admin {
    /// The topics of these names that exist, as they are. One that this client may not see is an error: it is not known
    /// whether it exists.
    pub fn topics(&self, names: &[&str]) -> Result<BTreeMap<String, Current>> {
        self.topics_by(names, None)
    }

    /// The same, with the settings asked of this broker. Without it Kafka's client may pick one that is dead, and waits
    /// for it.
    pub fn topics_by(
        &self,
        names: &[&str],
        broker: Option<i32>,
    ) -> Result<BTreeMap<String, Current>> {
        let metadata = self
            .client
            .client()
            .fetch_metadata(None, WAIT)
            .map_err(LogError::unavailable)?;
        let mut found: BTreeMap<String, Current> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none() && names.contains(&topic.name()))
            .map(|topic| {
                let replicas = topic.partitions().iter().map(|p| p.replicas().len() as u32);
                let current = Current {
                    partitions: topic.partitions().len() as u32,
                    replication: replicas.min().unwrap_or(0),
                    settings: BTreeMap::new(),
                };
                (topic.name().to_owned(), current)
            })
            .collect();
        let there: Vec<&str> = found.keys().map(String::as_str).collect();
        let not_seen: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !there.contains(name))
            .collect();
        if let Some(name) = self.hidden(&not_seen, WAIT)?.first() {
            return Err(LogError::denied(name, "DESCRIBE"));
        }
        let described = self.describe(&there, broker)?;
        for (name, resource) in described {
            if let Some(current) = found.get_mut(&name) {
                current.settings = resource
                    .entries
                    .into_iter()
                    .filter_map(|entry| Some((entry.name, entry.value?)))
                    .collect();
            }
        }
        Ok(found)
    }

    /// Does it. `Change::Cannot` cannot be done, and is not asked for.
    pub fn change(&self, topic: &str, changes: &[Change]) -> Result<()> {
        for change in changes {
            match change {
                Change::Create {
                    partitions,
                    replication,
                    settings,
                } => {
                    let replication = replication.map_or(-1, i32::from);
                    let new = NewTopic::new(
                        topic,
                        partitions.cast_signed(),
                        TopicReplication::Fixed(replication),
                    );
                    let new = settings
                        .iter()
                        .fold(new, |new, (name, value)| new.set(name, value));
                    let done = block_on(self.admin()?.create_topics([&new], &options()));
                    each(done.map_err(LogError::unavailable)?, "creating", topic)?;
                }
                Change::Partitions { to, .. } => {
                    let more = NewPartitions::new(topic, *to as usize);
                    let done = block_on(self.admin()?.create_partitions([&more], &options()));
                    each(
                        done.map_err(LogError::unavailable)?,
                        "adding partitions to",
                        topic,
                    )?;
                }
                Change::Set { .. } | Change::Cannot { .. } => {}
            }
        }
        let settings: BTreeMap<&str, &str> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Set { setting, to, .. } => Some((*setting, &**to)),
                _ => None,
            })
            .collect();
        if settings.is_empty() {
            return Ok(());
        }
        self.set(topic, &settings)
    }

    /// AlterConfigs replaces all that a topic has of its own, so what others have set goes along with it. (The request
    /// that changes single settings is not in rdkafka.)
    fn set(&self, topic: &str, settings: &BTreeMap<&str, &str>) -> Result<()> {
        let described = self.describe(&[topic], None)?;
        let resource = described
            .get(topic)
            .ok_or_else(|| LogError::missing_topic(topic))?;
        let mut all: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in &resource.entries {
            if entry.source == ConfigSource::DynamicTopic {
                let value = entry.value.as_deref().ok_or_else(|| {
                    LogError::invalid(format!(
                        "topic \"{topic}\" has a setting \"{}\" whose value the brokers do not tell; setting others would lose it: use kafka-configs.sh",
                        entry.name
                    ))
                })?;
                all.insert(&entry.name, value);
            }
        }
        all.extend(settings);
        let alter = AlterConfig {
            specifier: ResourceSpecifier::Topic(topic),
            entries: all.into_iter().collect(),
        };
        let done = block_on(self.admin()?.alter_configs([&alter], &options()));
        for answer in done.map_err(LogError::unavailable)? {
            answer.map_err(|(_, code)| refused("setting up", topic, code))?;
        }
        Ok(())
    }

    /// The settings of topics.
    fn describe(
        &self,
        names: &[&str],
        broker: Option<i32>,
    ) -> Result<BTreeMap<String, ConfigResource>> {
        let asked: Vec<ResourceSpecifier<'_>> = names
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let options = options().broker_id(broker);
        let deadline = Instant::now() + HEARD;
        loop {
            let answers = block_on(self.admin()?.describe_configs(&asked, &options));
            let mut all = BTreeMap::new();
            for answer in answers.map_err(LogError::unavailable)? {
                let resource = answer.map_err(LogError::unavailable)?;
                if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
                    all.insert(name.clone(), resource);
                }
            }
            // a refusal comes as a topic without any setting, and so does one that this broker has not heard of yet
            let bare = |(name, found): (&String, &ConfigResource)| {
                found.entries.is_empty().then(|| name.clone())
            };
            let Some(name) = all.iter().find_map(bare) else {
                return Ok(all);
            };
            let may = self.may_with_topics(&[&name], WAIT)?;
            let granted = |may: &BTreeSet<Operation>| may.contains(&Operation::DescribeConfigs);
            if !may.get(&name).is_none_or(granted) {
                return Err(LogError::denied(&name, "DESCRIBE_CONFIGS"));
            }
            if Instant::now() > deadline {
                return Err(LogError::missing_topic(&name));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// The settings of a broker, by name; empty where they may not be read.
    /// Answered by that broker itself.
    pub fn broker_settings(&self, id: i32, wait: Duration) -> Result<BTreeMap<String, String>> {
        let asked = [ResourceSpecifier::Broker(id)];
        let options = AdminOptions::new().request_timeout(Some(wait));
        let answers = block_on(self.admin()?.describe_configs(&asked, &options));
        let mut all = BTreeMap::new();
        for answer in answers.map_err(LogError::unavailable)? {
            let entries = answer.map_err(LogError::unavailable)?.entries;
            all.extend(entries.into_iter().filter_map(|e| Some((e.name, e.value?))));
        }
        Ok(all)
    }

    pub(super) fn admin(&self) -> Result<AdminClient<Heard>> {
        self.settings
            .create_with_context(Heard::default())
            .map_err(LogError::unavailable)
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(WAIT))
        .request_timeout(Some(WAIT))
}

pub(super) fn each(
    answers: Vec<Result<String, (String, Code)>>,
    doing: &str,
    topic: &str,
) -> Result<()> {
    for answer in answers {
        answer.map_err(|(_, code)| refused(doing, topic, code))?;
    }
    Ok(())
}

fn refused(doing: &str, topic: &str, code: Code) -> LogError {
    let what = format!("{doing} topic \"{topic}\": {code}");
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            LogError::invalid(format!(
                "{what}; grant CREATE, ALTER and ALTER_CONFIGS on the topics whose names begin with weir. (see `weir topics rights`)"
            ))
        }
        Code::PolicyViolation
        | Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions => LogError::invalid(what),
        _ => LogError::unavailable(what),
    }
}
