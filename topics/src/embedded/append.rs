//! Writes outside a transaction, acknowledged once they are durable.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::encode::Encoded;
use super::open::Shared;
use super::state::{Command, Outcome};
use crate::log::{Append, Appended, Outgoing};

/// All appenders of a log write through its one writer, which gathers what waits.
pub(super) struct Appender {
    pub(super) shared: Arc<Shared>,
    pub(super) keyless: AtomicU32,
}

impl Append for Appender {
    fn append(&self, records: Vec<Outgoing>) -> Appended<'_> {
        Box::pin(async move {
            let mut encoded = Encoded::default();
            let mut places = Vec::with_capacity(records.len());
            for outgoing in &records {
                places.push(encoded.push(&self.shared.topics, &self.keyless, outgoing)?);
            }
            drop(records);
            if places.is_empty() {
                return Ok(Vec::new());
            }
            match self
                .shared
                .submit_async(Command::Append {
                    writes: encoded.writes,
                })
                .await?
            {
                Outcome::Written(bases) => Ok(places
                    .into_iter()
                    .map(|(write, at)| bases[write] + i64::from(at))
                    .collect()),
                other => unreachable!("an append is answered with its offsets, not {other:?}"),
            }
        })
    }
}
