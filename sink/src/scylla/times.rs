//! The times that rows are written with: the base of their partition, which Weir's store keeps, and their record's offset.

use std::collections::HashMap;
use std::sync::Arc;

use store::Store;
use tokio::runtime::Handle;
use topics::{Log, Partition, TopicId};

use crate::clock::now_us;
use crate::error::SinkError;

/// Where the times come from.
pub struct WriteTimes {
    log: Arc<dyn Log>,
    store: Store,
    runtime: Handle,
    known: HashMap<Partition, Base>,
}

/// Of one partition.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) topic_id: TopicId,
    base_us: i64,
}

impl Base {
    pub(super) fn time_us(&self, offset: i64) -> i64 {
        self.base_us.saturating_add(offset)
    }
}

impl WriteTimes {
    /// `runtime`: where the store's calls run.
    pub fn new(log: Arc<dyn Log>, store: Store, runtime: Handle) -> Self {
        Self {
            log,
            store,
            runtime,
            known: HashMap::new(),
        }
    }

    /// Asks anew when the partition is next needed: its topic may have been made anew.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.known.remove(partition);
    }

    /// `destination`: for messages.
    pub(super) fn base(
        &mut self,
        partition: &Partition,
        destination: &str,
    ) -> Result<Base, SinkError> {
        if let Some(base) = self.known.get(partition) {
            return Ok(base.clone());
        }
        let topic_id = self.log.topic_id(&partition.topic)?;
        let asked = self
            .store
            .write_time_base(&topic_id, partition.number, now_us());
        let asked = self.runtime.block_on(asked);
        let base_us = asked.map_err(|error| match error.disposition() {
            store::Disposition::Invalid => SinkError::Open {
                destination: destination.to_owned(),
                reason: error.to_string(),
            },
            _ => SinkError::Unavailable {
                destination: destination.to_owned(),
                reason: format!("the store does not say its times: {error}"),
            },
        })?;
        let base = Base { topic_id, base_us };
        self.known.insert(partition.clone(), base.clone());
        Ok(base)
    }
}
