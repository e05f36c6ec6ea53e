//! Says that a release is over: when every partition that the graph's records can have come from is marked as done, by
//! whichever process, the store is told, and the graph is simply active (or gone) from then on.

use std::sync::Arc;

use bytes::Bytes;
use topics::catalog::{DELAYS, HOPS, POSITIONS, TRIGGERS};
use topics::{Log, LogError, Partition, Topic};

use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::released::{self, Progress};
use crate::streams::{Releasing, Streams as _};

pub(crate) struct Settler {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) definitions: Arc<Definitions>,
}

impl Settler {
    /// Looks at every release. Any process may be the one to say it: the store takes it once.
    pub(crate) fn look(&self) {
        let looked = self.definitions.releasing();
        let all = match looked {
            Ok(all) => all,
            Err(e) => return tracing::debug!("asking for releases: {e}"),
        };
        for of in all.iter() {
            match self.is_over(of) {
                Ok(false) => {}
                Ok(true) => match self.definitions.settle(of) {
                    Ok(_) => tracing::info!("graph \"{}\": nothing is parked any more", of.graph),
                    Err(e) => tracing::warn!("graph \"{}\" could not be settled: {e}", of.graph),
                },
                Err(e) => tracing::debug!("looking at the release of \"{}\": {e}", of.graph),
            }
        }
    }

    fn is_over(&self, of: &Releasing) -> Result<bool, ProcessorError> {
        let mut topics: Vec<Topic> = vec![TRIGGERS.into(), HOPS.into()];
        topics.extend(DELAYS.map(|(name, _)| Topic::from(name)));
        for one in self.definitions.subscribed()?.iter() {
            let subscribers = self.definitions.subscribers(&one.topic)?;
            if subscribers
                .iter()
                .any(|s| s.tenant == of.tenant && s.graph == of.graph)
            {
                topics.push(one.topic.clone());
            }
        }
        let mut keys: Vec<Bytes> = Vec::new();
        for topic in topics {
            let count = match self.log.partitions(&topic) {
                // its records are gone with it
                Err(LogError::MissingTopic { .. }) => 0,
                count => count?,
            };
            keys.extend((0..count).map(|number| {
                let topic = topic.clone();
                released::key(of, &Partition { topic, number })
            }));
        }
        let marks = self.log.last(POSITIONS, &keys)?;
        let is_done = |mark: &Option<Bytes>| {
            mark.as_deref()
                .is_some_and(|mark| Progress::parse(mark).done == Some(of.number))
        };
        Ok(marks.iter().all(is_done))
    }
}
