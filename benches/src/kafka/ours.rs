//! A pass of ours: the processor in a process of its own takes what was loaded to `weir.triggers`; afterwards its results are
//! read back, and each input must be among them once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rdkafka::Message as _;
use schemas::records::{Payload, SegmentResult};
use topics::catalog::{GROUP_PROCESSORS, RESULTS};

use super::child::{self, Settings, Topics};
use super::cluster::{Cluster, Loaded};
use super::orders;
use super::pass::{Passed, Running, measure};
use super::plain;
use crate::place;

/// One in so many outputs is compared byte by byte.
pub(super) const SAMPLED: u64 = 997;
/// The graph of the rows whose step does nothing.
pub(super) const COPY: &str = "copy";

/// The three steps of `examples/orders`.
pub(super) fn orders_settings(cluster: &Cluster) -> Result<Settings> {
    let folder = place::root().join("examples/orders");
    let graph = std::fs::read_to_string(folder.join("graph.yaml"))?;
    Ok(Settings {
        brokers: cluster.brokers().to_owned(),
        graph,
        folder,
        lanes: 2,
        batch_records_max: 10_000,
        batch_bytes_max: 16 << 20,
        interval_ms: 100,
        transactions: true,
        topics: Topics::default(),
    })
}

/// One step that copies.
pub(super) fn copy_settings(cluster: &Cluster) -> Result<Settings> {
    let graph = format!(
        "weir: 1\nname: {COPY}\ntriggers:\n  {}: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: ./copy.wasm, from: [{}], isolation: batch }}\n",
        orders::TRIGGER,
        orders::TRIGGER
    );
    Ok(Settings {
        graph,
        folder: place::root().join("processor/tests/guests"),
        ..orders_settings(cluster)?
    })
}

/// This program again, as the processor.
pub(super) fn start(settings: &Settings, folder: &Path) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(child::ARGUMENT)
        .arg(serde_json::to_string(settings)?);
    Running::start(command, Some(child::READY), folder)
}

/// Measured from `warm` inputs on, until `until` of them; then the rest is run too, and everything is checked.
pub(super) fn pass(
    cluster: &Cluster,
    settings: &Settings,
    loaded: &Loaded,
    what: &str,
    (warm, until): (u64, u64),
    samples: &mut Samples,
) -> Result<Passed> {
    cluster.rewind(GROUP_PROCESSORS, loaded)?;
    let group = if settings.transactions {
        GROUP_PROCESSORS
    } else {
        plain::GROUP
    };
    cluster.rewind(group, loaded)?;
    let before = cluster.ends(RESULTS, loaded.from.len() as u32)?;
    let scratch = place::scratch()?;
    let mut running = start(settings, scratch.path())?;
    let counter = cluster.counter(group, loaded)?;
    let passed = measure(&mut running, &counter, what, warm, until, loaded.count)?;
    running.stop()?;
    let mut check = Check::new(loaded.count, samples).twice_if(!settings.transactions);
    cluster.read(RESULTS, &before, |message| {
        let value = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let result = SegmentResult::decode(&value)?;
        ensure!(
            result.failure.is_none(),
            "an execution failed: {:?}",
            result.failure
        );
        match &result.outputs[..] {
            [output] => match &output.data {
                Payload::Inline(data) => check.one(message.key(), data),
                Payload::Reference { .. } => bail!("an output by reference"),
            },
            outputs => bail!("{} outputs of one input", outputs.len()),
        }
    })?;
    check.end()?;
    cluster.empty(RESULTS, loaded.from.len() as u32)?;
    Ok(passed)
}

/// What some of the inputs became; the first to come says what it has to be.
#[derive(Default)]
pub(super) struct Samples(BTreeMap<u64, Bytes>);

impl Samples {
    /// What they have to become, where that is known.
    pub(super) fn of(count: u64, output: impl Fn(u64) -> Vec<u8>) -> Self {
        Self(
            (0..count)
                .step_by(SAMPLED as usize)
                .map(|n| (n, output(n).into()))
                .collect(),
        )
    }
}

/// Each of the inputs must have come out once, and the sampled ones as the others made them.
pub(super) struct Check<'a> {
    seen: Vec<bool>,
    /// Without transactions a rebalance runs some of them twice: that is what transactions are for.
    twice: bool,
    samples: &'a mut Samples,
}

impl<'a> Check<'a> {
    pub(super) fn new(all: u64, samples: &'a mut Samples) -> Self {
        Self {
            seen: vec![false; all as usize],
            twice: false,
            samples,
        }
    }

    /// Some may come out twice.
    fn twice_if(self, twice: bool) -> Self {
        Self { twice, ..self }
    }

    pub(super) fn one(&mut self, key: Option<&[u8]>, output: &[u8]) -> Result<()> {
        let n = key
            .and_then(orders::number)
            .context("an output without an order's key")?;
        let seen = self
            .seen
            .get_mut(n as usize)
            .with_context(|| format!("order {n} was never sent"))?;
        let again = std::mem::replace(seen, true);
        ensure!(self.twice || !again, "order {n} came out twice");
        if n.is_multiple_of(SAMPLED) {
            let expected = self
                .samples
                .0
                .entry(n)
                .or_insert_with(|| Bytes::copy_from_slice(output));
            ensure!(
                expected == output,
                "order {n} differs:\n{}\n{}",
                String::from_utf8_lossy(expected),
                String::from_utf8_lossy(output)
            );
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<()> {
        let missing = self.seen.iter().filter(|seen| !**seen).count();
        ensure!(
            missing == 0,
            "{missing} of {} orders did not come out",
            self.seen.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_a_loss_and_a_difference_are_found() {
        let mut samples = Samples::of(3, |_| b"same".to_vec());
        let mut check = Check::new(3, &mut samples);
        let key = |n| Some(orders::key(n).into_bytes());
        assert!(check.one(key(0).as_deref(), b"other").is_err());
        check.one(key(1).as_deref(), b"").unwrap();
        assert!(check.one(key(1).as_deref(), b"").is_err());
        assert!(check.one(key(3).as_deref(), b"").is_err());
        assert!(check.one(None, b"").is_err());
        assert!(check.end().is_err());
        let mut check = Check::new(1, &mut samples);
        check.one(key(0).as_deref(), b"same").unwrap();
        check.end().unwrap();
    }
}
