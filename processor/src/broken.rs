//! Deliberately broken variants, chosen by `WEIR_BROKEN`, and failpoints, chosen by `WEIR_FAILPOINT`: what the fault
//! tests must catch, or need to get a fault to where it hurts. Compiled only with the feature `broken`, into a binary of
//! its own. (The variants of Kafka's client are in `topics`.)
//!
//! `WEIR_BROKEN=offsets-outside`: the offsets are committed in a transaction of their own, before the outputs.
//! `WEIR_FAILPOINT=in-transaction=SECONDS/N`: every Nth commit of a lane is held for so long, its transaction open.
//! `WEIR_FAILPOINT=abort-on=TEXT`: a record whose value contains the text ends the process that runs it.

use std::time::Duration;

use topics::{Fetched, Lane, LogError, Outgoing, Position};

fn variant(name: &str) -> bool {
    std::env::var("WEIR_BROKEN").is_ok_and(|variant| variant == name)
}

/// The value of a failpoint.
fn failpoint(name: &str) -> Option<String> {
    let set = std::env::var("WEIR_FAILPOINT").ok()?;
    let (found, value) = set.split_once('=')?;
    (found == name).then(|| value.to_owned())
}

/// A lane's.
#[derive(Default)]
pub(crate) struct Held {
    outputs: Vec<Outgoing>,
    commits: u64,
}

impl Held {
    pub(crate) fn instead_of_send(&mut self, outputs: Vec<Outgoing>) -> Vec<Outgoing> {
        if !variant("offsets-outside") {
            return outputs;
        }
        self.outputs.extend(outputs);
        Vec::new()
    }

    pub(crate) fn before_commit(
        &mut self,
        port: &mut dyn Lane,
        positions: &[Position],
    ) -> Result<(), LogError> {
        self.commits += 1;
        if variant("offsets-outside") {
            port.commit(positions.to_vec())?;
            // A wider gap than a real one: a kill must have a chance to fall into it.
            std::thread::sleep(Duration::from_millis(20));
            port.send(std::mem::take(&mut self.outputs))?;
        }
        let Some(held) = failpoint("in-transaction") else {
            return Ok(());
        };
        let (seconds, every) = held.split_once('/').unwrap_or((&held, "1"));
        let (seconds, every) = (seconds.parse().unwrap_or(0), every.parse().unwrap_or(1));
        if self.commits.is_multiple_of(every) {
            tracing::warn!("failpoint: held for {seconds} s in its transaction");
            std::thread::sleep(Duration::from_secs(seconds));
        }
        Ok(())
    }

    pub(crate) fn drop_everything(&mut self) {
        self.outputs.clear();
    }
}

/// Called by a worker.
pub(crate) fn before_record(record: &Fetched) {
    let (Some(text), Some(value)) = (failpoint("abort-on"), &record.record.value) else {
        return;
    };
    if value
        .windows(text.len())
        .any(|part| part == text.as_bytes())
    {
        std::process::abort();
    }
}
