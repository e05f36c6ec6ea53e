//! Where the replicas of topics lie, and which of them have everything.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::Admin;
use crate::error::LogError;
use crate::log::Result;

/// One partition's replicas, by the ids of their brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// The partitions of each topic.
pub type Places = BTreeMap<String, Vec<Place>>;

impl Admin {
    /// Those of the topics of these names that exist, as the broker that answers knows them.
    pub fn places(&self, names: &[&str], wait: Duration) -> Result<Places> {
        let metadata = self.client.client().fetch_metadata(None, wait);
        let metadata = metadata.map_err(LogError::unavailable)?;
        let topics = metadata.topics().iter();
        let wanted = topics.filter(|topic| names.contains(&topic.name()));
        Ok(wanted
            .map(|topic| {
                let partitions = topic.partitions().iter();
                let places = partitions.map(|partition| Place {
                    replicas: partition.replicas().to_vec(),
                    in_sync: partition.isr().to_vec(),
                });
                (topic.name().to_owned(), places.collect())
            })
            .collect())
    }
}
