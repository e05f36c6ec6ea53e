//! The owner of one shard of a re-readable source.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;

use super::encode::Encoded;
use super::open::Shared;
use super::state::Command;
use crate::log::{Outgoing, Result, Source};

pub(super) struct Shard {
    pub(super) shared: Arc<Shared>,
    pub(super) shard: Arc<str>,
    pub(super) epoch: u64,
    pub(super) keyless: AtomicU32,
}

impl Source for Shard {
    fn commit(&mut self, records: Vec<Outgoing>, position: Bytes) -> Result<()> {
        let mut encoded = Encoded::default();
        for outgoing in &records {
            encoded.push(&self.shared.topics, &self.keyless, outgoing)?;
        }
        let (shard, epoch) = (self.shard.clone(), self.epoch);
        self.shared
            .submit(Command::SourceCommit {
                shard,
                epoch,
                writes: encoded.writes,
                position,
            })
            .map(drop)
    }
}
