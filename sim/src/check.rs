//! The count afterwards, by what readers of committed records see, and what was sent: nothing lost, nothing twice,
//! nothing from aborted transactions, in order, the original bytes.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::records::{DeadLetter, FailureKind, SegmentResult};
use topics::Record;
use topics::catalog::{DEAD_LETTERS, HOPS, POSITIONS, RESULTS, TRIGGERS};

use crate::broker::Broker;
use crate::orders::{Kind, Order};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: u64,
    pub doubled: u64,
    /// Everything that is wrong, in words; empty: nothing.
    pub wrong: Vec<String>,
}

impl Verdict {
    pub fn good(&self) -> bool {
        self.wrong.is_empty()
    }

    fn lose(&mut self, what: String) {
        self.lost += 1;
        self.wrong.push(format!("lost: {what}"));
    }

    fn double(&mut self, what: String) {
        self.doubled += 1;
        self.wrong.push(format!("twice: {what}"));
    }
}

/// A committed record and where it stands.
struct Seen {
    partition: u32,
    offset: i64,
    record: Record,
}

fn seen(broker: &Broker, topic: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for number in 0..broker.count(topic) {
        let partition = topics::Partition {
            topic: topic.into(),
            number,
        };
        let Some(at) = broker.find(&partition) else {
            continue;
        };
        let (records, _) = broker.log(at).read(0, usize::MAX, false);
        all.extend(records.into_iter().map(|(offset, record)| Seen {
            partition: number,
            offset,
            record,
        }));
    }
    all
}

/// `deaths`: how often processes died or were cut off; what any record may be condemned for.
pub(crate) fn check(broker: &Broker, orders: &[Order], deaths: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let results = results(broker, &mut verdict);
    let mut by_segment: HashMap<[u8; 16], Vec<&SegmentResult>> = HashMap::new();
    for (_, result) in &results {
        by_segment.entry(result.segment).or_default().push(result);
    }
    let mut expected: HashSet<[u8; 16]> = HashSet::new();
    let letters = letters(broker, &mut verdict);
    let mut expected_letters = 0;
    for order in orders.iter().filter(|order| order.kind != Kind::Aborted) {
        let id = order.execution;
        let number = order.outgoing.record.headers[0].1.clone();
        let of: Vec<&(DeadLetter, Record)> = letters
            .iter()
            .filter(|(_, record)| {
                record
                    .headers
                    .first()
                    .is_some_and(|(name, value)| name == "n" && *value == number)
            })
            .collect();
        let condemned = of
            .iter()
            .any(|(about, _)| about.kind == FailureKind::HostCrash);
        if condemned && order.kind != Kind::Killer && deaths < 3 {
            verdict
                .wrong
                .push(format!("{id} was condemned after {deaths} deaths in all"));
        }
        let fails = condemned
            || matches!(
                order.kind,
                Kind::Reject | Kind::Trap | Kind::Killer | Kind::Garbage
            );
        expected_letters += of.len().max(usize::from(fails));
        match of.len() {
            0 if fails => verdict.lose(format!("the dead letter of {id}")),
            1 if !fails => verdict
                .wrong
                .push(format!("a dead letter of {id}, which does not fail")),
            0 | 1 => {}
            _ => verdict.double(format!("the dead letter of {id}")),
        }
        for (_, record) in of {
            let original = &order.outgoing.record;
            if (&record.key, &record.value) != (&original.key, &original.value) {
                verdict
                    .wrong
                    .push(format!("the dead letter of {id} has other bytes"));
            }
        }
        if order.kind == Kind::Garbage {
            continue;
        }
        expected.insert(id.0);
        let first = by_segment.get(&id.0).map_or(&[][..], Vec::as_slice);
        match first {
            [] => verdict.lose(format!("the result of {id} ({:?})", order.kind)),
            [result] => {
                if result.failure.is_some() != fails {
                    verdict.wrong.push(format!(
                        "{id} ({:?}) came to {:?}",
                        order.kind, result.failure
                    ));
                }
                let hops = match order.kind {
                    Kind::Hops(hops) if !fails => usize::from(hops),
                    _ => 0,
                };
                if result.started.len() != hops {
                    verdict
                        .wrong
                        .push(format!("{id} started {} segments", result.started.len()));
                }
                for segment in &result.started {
                    expected.insert(*segment);
                    match by_segment.get(segment).map_or(0, Vec::len) {
                        0 => verdict.lose(format!("the result of a hop of {id}")),
                        1 => {}
                        _ => verdict.double(format!("the result of a hop of {id}")),
                    }
                }
            }
            _ => verdict.double(format!("the result of {id} ({:?})", order.kind)),
        }
    }
    for segment in by_segment
        .keys()
        .filter(|segment| !expected.contains(*segment))
    {
        verdict.double(format!(
            "a result of segment {}, which nobody asked for",
            ExecutionId(*segment)
        ));
    }
    // Letters of hops are possible only for what was condemned.
    let of_hops = letters
        .iter()
        .filter(|(about, _)| about.topic == HOPS)
        .count();
    if letters.len() != expected_letters + of_hops {
        verdict.double(format!(
            "{} dead letters instead of {expected_letters}",
            letters.len()
        ));
    }
    in_order(broker, &results, &mut verdict);
    marks(broker, &mut verdict);
    verdict.wrong.splice(0..0, broker.broken.iter().cloned());
    verdict
}

fn results(broker: &Broker, verdict: &mut Verdict) -> Vec<(Seen, SegmentResult)> {
    let mut results = Vec::new();
    for seen in seen(broker, RESULTS) {
        let value = seen.record.value.clone().unwrap_or_default();
        match SegmentResult::decode(&value) {
            Ok(result) => results.push((seen, result)),
            Err(e) => verdict
                .wrong
                .push(format!("a result that cannot be read: {e}")),
        }
    }
    results
}

fn letters(broker: &Broker, verdict: &mut Verdict) -> Vec<(DeadLetter, Record)> {
    let mut letters = Vec::new();
    for Seen { record, .. } in seen(broker, DEAD_LETTERS) {
        match DeadLetter::from_headers(&record.headers) {
            Ok(about) => letters.push((about, record)),
            Err(e) => verdict
                .wrong
                .push(format!("a dead letter that cannot be read: {e}")),
        }
    }
    letters
}

/// Results stand in the order of the records that they came from, for each key.
fn in_order(broker: &Broker, results: &[(Seen, SegmentResult)], verdict: &mut Verdict) {
    let mut places: HashMap<[u8; 16], (u32, i64, bool)> = HashMap::new();
    for seen in seen(broker, TRIGGERS) {
        let value = seen.record.value.unwrap_or_default();
        if let Ok(trigger) = schemas::records::Trigger::decode(&value) {
            places.insert(trigger.execution.0, (seen.partition, seen.offset, true));
        }
    }
    for seen in seen(broker, HOPS) {
        let value = seen.record.value.unwrap_or_default();
        if let Ok(hop) = schemas::records::Hop::decode(&value) {
            places.insert(hop.segment, (seen.partition, seen.offset, false));
        }
    }
    let mut last: BTreeMap<(Option<Bytes>, bool, u32), i64> = BTreeMap::new();
    for (seen, result) in results {
        let Some((partition, offset, trigger)) = places.get(&result.segment) else {
            continue;
        };
        let before = last.insert((seen.record.key.clone(), *trigger, *partition), *offset);
        if before.is_some_and(|before| before > *offset) {
            verdict.wrong.push(format!(
                "the results of key {:?} are out of order",
                seen.record.key
            ));
        }
    }
}

/// Each partition is started once.
fn marks(broker: &Broker, verdict: &mut Verdict) {
    let mut keys: HashSet<Option<Bytes>> = HashSet::new();
    for Seen { record, .. } in seen(broker, POSITIONS) {
        if !keys.insert(record.key.clone()) {
            verdict.double(format!("the start of {:?}", record.key));
        }
    }
    let partitions = broker.count(TRIGGERS) + broker.count(HOPS);
    if keys.len() != partitions as usize {
        verdict.wrong.push(format!(
            "{} of {partitions} partitions were started",
            keys.len()
        ));
    }
}
