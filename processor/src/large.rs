//! Payloads that are too large for a record: fetched before a segment runs, put before what it became is committed.
//!
//! The calls wait, and only workers make them. Where payloads cannot be reached, `Outage` says so to the lanes: records
//! that need one wait, and their partitions with them, while the others go on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::records::{Hop, INLINE_BYTES_MAX, Payload, Trigger};
use store::{Disposition, Payloads, Reference};
use tokio::runtime::Handle;
use topics::catalog::{self, HOPS, TRIGGERS};
use topics::{Fetched, Partition};

use crate::error::ProcessorError;

/// How soon it is tried again to reach them.
const AGAIN: Duration = Duration::from_secs(2);
/// A smaller payload stays in its record, however many there are.
const OUTSIDE_BYTES_MIN: usize = 64 << 10;

/// Where payloads are, for a thread that may wait.
pub(crate) struct Large {
    payloads: Payloads,
    runtime: Handle,
}

impl Large {
    pub(crate) fn new(payloads: Payloads, runtime: Handle) -> Self {
        Self { payloads, runtime }
    }

    /// The payload; the inner error says why there is none, for ever.
    pub(crate) fn fetch(
        &self,
        reference: &Reference,
    ) -> Result<Result<Bytes, String>, ProcessorError> {
        match self.runtime.block_on(self.payloads.get(reference)) {
            Ok(data) => Ok(Ok(data)),
            Err(error) if error.disposition() == Disposition::Reject => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn put(&self, data: Bytes) -> Result<Reference, ProcessorError> {
        let reference = Reference::of(&data);
        self.runtime.block_on(self.payloads.put(&reference, data))?;
        Ok(reference)
    }
}

/// Which payloads do not travel in a record: those that are too large by themselves, and of the others the largest, until
/// what is left comes to no more than this together.
pub(crate) fn outside(sizes: &[usize], together_max: usize) -> Vec<usize> {
    let mut largest_first: Vec<usize> = (0..sizes.len())
        .filter(|at| sizes[*at] >= OUTSIDE_BYTES_MIN)
        .collect();
    largest_first.sort_by_key(|at| (std::cmp::Reverse(sizes[*at]), *at));
    let mut left: usize = sizes.iter().sum();
    largest_first.retain(|at| {
        let goes = sizes[*at] > INLINE_BYTES_MAX || left > together_max;
        if goes {
            left -= sizes[*at];
        }
        goes
    });
    largest_first
}

/// Whether payloads can be reached; shared by the lanes and workers of a process.
#[derive(Default)]
pub(crate) struct Outage {
    /// Looked at for each record; the rest only while it is so.
    on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is tried before.
    until: Option<Instant>,
    why: String,
    /// Records that do not refer to a payload, but came to one.
    stuck: HashSet<(Partition, i64)>,
}

impl Outage {
    /// From what became of a record.
    pub(crate) fn learn<T>(&self, record: &Fetched, became: &Result<T, ProcessorError>) {
        let why = match became {
            Err(error @ (ProcessorError::Payloads(_) | ProcessorError::NoPayloads { .. })) => {
                error.to_string()
            }
            _ => return,
        };
        let mut state = self.state.lock();
        state.until = Some(Instant::now() + AGAIN);
        state.why = why;
        state
            .stuck
            .insert((record.partition.clone(), record.offset));
        self.on.store(true, Ordering::Release);
    }

    /// A call has been answered.
    pub(crate) fn is_over(&self) {
        if self.on.swap(false, Ordering::AcqRel) {
            *self.state.lock() = State::default();
        }
    }

    /// Until when a record waits, and why.
    pub(crate) fn holds(&self, record: &Fetched) -> Option<(Instant, String)> {
        if !self.on.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        let until = state.until.filter(|until| *until > Instant::now())?;
        let place = (record.partition.clone(), record.offset);
        (state.stuck.contains(&place) || refers(record)).then(|| (until, state.why.clone()))
    }
}

/// Whether a record refers to a payload. One that took a detour does not say which of the two it is.
fn refers(record: &Fetched) -> bool {
    let Some(value) = &record.record.value else {
        return false;
    };
    let trigger = || {
        let trigger = Trigger::decode(value);
        trigger.is_ok_and(|trigger| matches!(trigger.data, Payload::Reference { .. }))
    };
    let hop = || {
        let hop = Hop::decode(value);
        hop.is_ok_and(|hop| hop.events.iter().any(|event| event.reference.is_some()))
    };
    match &*record.partition.topic {
        TRIGGERS => trigger(),
        HOPS => hop(),
        topic if catalog::holds_detours(topic) => trigger() || hop(),
        _ => false,
    }
}

/// Nobody configured a place for them.
pub(crate) fn nowhere(reference: &Reference) -> ProcessorError {
    ProcessorError::NoPayloads {
        sha256: hex::encode(reference.sha256),
    }
}

#[cfg(test)]
mod tests {
    use schemas::records::{EdgeEvent, Hop};
    use topics::Record;

    use super::*;

    #[test]
    fn what_does_not_fit_goes_outside() {
        const KIB: usize = 1 << 10;
        for (case, sizes, together_max, expected) in [
            ("nothing", vec![], 0, vec![]),
            ("all fit", vec![512 * KIB, 100], 600 * KIB, vec![]),
            (
                "too large by itself",
                vec![1, 512 * KIB + 1],
                10_000 * KIB,
                vec![1],
            ),
            (
                "the largest go first, of equal ones the first",
                vec![300 * KIB, 400 * KIB, 300 * KIB, 1],
                310 * KIB,
                vec![1, 0],
            ),
            ("small ones stay", vec![KIB; 2_000], 960 * KIB, vec![]),
        ] {
            assert_eq!(outside(&sizes, together_max), expected, "{case}");
        }
    }

    fn record(topic: &str, offset: i64, value: Bytes) -> Fetched {
        Fetched {
            partition: Partition {
                topic: topic.into(),
                number: 0,
            },
            offset,
            record: Record {
                key: None,
                value: Some(value),
                headers: Vec::new(),
                timestamp_ms: 0,
            },
        }
    }

    fn hop(reference: Option<([u8; 32], u64)>) -> Bytes {
        let event = EdgeEvent {
            edge: "a".into(),
            event: schemas::Event::default(),
            reference,
        };
        let hop = Hop {
            tenant: "default".into(),
            graph: "g".into(),
            version: [0; 32],
            trigger: "t".into(),
            trigger_id: "1".into(),
            execution: schemas::ExecutionId([0; 16]),
            time_us: 0,
            segment: [0; 16],
            step: "s".into(),
            attempt: 1,
            events: vec![event],
        };
        hop.encode()
    }

    #[test]
    fn who_needs_a_payload_waits() {
        let outage = Outage::default();
        let plain = record(HOPS, 1, hop(None));
        let referring = record(HOPS, 2, hop(Some(([7; 32], 1 << 20))));
        let delayed = record("weir.delays.5s", 0, hop(Some(([7; 32], 1 << 20))));
        let all = [&plain, &referring, &delayed];
        let waits = |outage: &Outage| all.map(|record| outage.holds(record).is_some());
        assert_eq!(waits(&outage), [false; 3]);
        let other: Result<(), _> = Err(ProcessorError::Worker { lane: 0 });
        outage.learn(&plain, &other);
        assert_eq!(waits(&outage), [false; 3]);
        let down: Result<(), _> = Err(nowhere(&Reference::of(b"x")));
        outage.learn(&referring, &down);
        assert_eq!(waits(&outage), [false, true, true]);
        outage.learn(&plain, &down);
        assert_eq!(waits(&outage), [true; 3], "it could not put its output");
        outage.is_over();
        assert_eq!(waits(&outage), [false; 3]);
    }
}
