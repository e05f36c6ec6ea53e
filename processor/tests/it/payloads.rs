//! Payloads that no record takes, on their way through lanes.

use std::path::Path;

use bytes::Bytes;
use processor::ProcessorConfig;
use schemas::ExecutionId;
use schemas::records::{DeadLetter, FailureKind, Hop, Payload, SegmentResult, Trigger};
use store::{PayloadSettings, Payloads, Reference, Sweep};
use topics::catalog::{DEAD_LETTERS, HOPS, TRIGGERS};

use crate::faulty::Faults;
use crate::lanes::{Line, raw, small};

fn folder(path: &Path) -> Payloads {
    Payloads::open(&PayloadSettings::of(format!("file:{}", path.display()))).unwrap()
}

fn start(config: &ProcessorConfig, every: u64, payloads: &Payloads) -> Line {
    Line::start_with(config, Faults::every(every), Some(payloads.clone()))
}

fn large(byte: u8, kib: usize) -> (Reference, Bytes) {
    let data = Bytes::from(vec![byte; kib << 10]);
    (Reference::of(&data), data)
}

fn referring(Reference { sha256, bytes }: Reference) -> Payload {
    Payload::Reference { sha256, bytes }
}

/// A trigger that refers to a payload, which may be there.
fn trigger(line: &Line, number: u64, reference: Reference) -> (ExecutionId, Bytes) {
    let id = format!("large-{number}");
    let execution = ExecutionId::derive(number, "default", "g", "t", &id);
    let trigger = Trigger {
        tenant: "default".into(),
        graph: "g".into(),
        trigger: "t".into(),
        trigger_id: id,
        execution,
        time_us: 1,
        origin: None,
        key: None,
        content_type: "application/octet-stream".into(),
        headers: vec![],
        data: referring(reference),
    };
    let value = trigger.encode();
    let record = raw(
        TRIGGERS,
        format!("large-{number}").as_bytes(),
        value.clone(),
    );
    line.runtime
        .block_on(line.log.appender().append(vec![record]))
        .unwrap();
    (execution, value)
}

fn of(results: &[SegmentResult], execution: ExecutionId) -> Vec<&SegmentResult> {
    results
        .iter()
        .filter(|r| r.execution == execution)
        .collect()
}

#[test]
fn it_is_read_hops_and_is_an_output_by_reference() {
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(root.path());
    // whatever fails under the lanes
    for every in [0, 3] {
        let line = start(&small(), every, &payloads);
        line.apply(
            "g",
            "  near: { uses: copy, from: [t] }\n  far: { uses: copy, from: [near], hop: \"'k'\" }\n",
        );
        let (reference, data) = large(b'a' + every as u8, 5 << 10);
        line.runtime
            .block_on(payloads.put(&reference, data))
            .unwrap();
        let (execution, _) = trigger(&line, every, reference);
        let results = line.results(2);
        let last = of(&results, execution);
        let last = last.iter().find(|r| r.segment != execution.0).unwrap();
        assert_eq!(last.failure, None);
        assert_eq!(last.outputs[0].data, referring(reference));
        let hop = line.read(HOPS, 1).remove(0).record.value.unwrap();
        assert!(hop.len() < 1_000, "{}", hop.len());
        let event = Hop::decode(&hop).unwrap().events.remove(0);
        assert_eq!(event.reference, Some((reference.sha256, reference.bytes)));
        assert!(event.event.data.is_empty());
    }
    let swept = payloads.sweep(Sweep::Look);
    assert_eq!(
        tokio().block_on(swept).unwrap().kept,
        2,
        "in and out are one object"
    );
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Outputs that fit one by one but not together; and without a place, what to do about it.
#[test]
fn what_does_not_fit_together_is_put_away() {
    let root = tempfile::tempdir().unwrap();
    let steps = "  a: { uses: copy, from: [t] }\n  b: { uses: copy, from: [t] }\n  c: { uses: copy, from: [t] }\n";
    let text = "x".repeat(400 << 10);
    for payloads in [Some(folder(root.path())), None] {
        let line = Line::start_with(&small(), Faults::every(0), payloads.clone());
        line.apply("g", steps);
        line.trigger("g", [("k".to_owned(), text.clone())]);
        let result = line.results(1).remove(0);
        if payloads.is_some() {
            assert_eq!(result.failure, None);
            let inline = |data: &Payload| matches!(data, Payload::Inline(_));
            let inline: Vec<bool> = result.outputs.iter().map(|o| inline(&o.data)).collect();
            assert_eq!(inline, [false, false, true]);
        } else {
            let failure = result.failure.unwrap();
            assert_eq!(failure.kind, FailureKind::OutputTooLarge);
            assert!(
                failure.reason.contains("[payloads] url"),
                "{}",
                failure.reason
            );
        }
    }
}

#[test]
fn a_lost_one_is_a_dead_letter_that_says_so() {
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(root.path());
    let mut line = start(&small(), 0, &payloads);
    line.apply("g", "  copy: { uses: copy, from: [t] }\n");
    let (reference, _) = large(b'l', 1 << 10);
    let (execution, original) = trigger(&line, 1, reference);
    line.trigger("g", [("k".to_owned(), "1".to_owned())]);
    let results = line.results(2);
    let lost = of(&results, execution)[0].failure.clone().unwrap();
    assert_eq!(lost.kind, FailureKind::Record);
    for word in ["lost", &hex::encode(reference.sha256), payloads.place()] {
        assert!(lost.reason.contains(word), "{}", lost.reason);
    }
    let letter = line.read(DEAD_LETTERS, 1).remove(0).record;
    assert_eq!(letter.value, Some(original), "the original's bytes");
    let death = DeadLetter::from_headers(&letter.headers).unwrap();
    assert_eq!((death.kind, death.reason), (lost.kind, lost.reason));
    line.stop();
}

/// Not mounted, not reachable: nothing is lost, and who does not need it goes on.
#[test]
fn where_it_cannot_be_reached_its_record_waits() {
    let root = tempfile::tempdir().unwrap();
    let (mount, away) = (root.path().join("mount"), root.path().join("away"));
    let payloads = folder(&mount);
    let mut line = start(&small(), 0, &payloads);
    line.apply("g", "  copy: { uses: copy, from: [t] }\n");
    line.apply("twice", "  a: { uses: copy, from: [t] }\n  b: { uses: copy, from: [t] }\n  c: { uses: copy, from: [t] }\n");
    let (reference, data) = large(b'w', 1 << 10);
    line.runtime
        .block_on(payloads.put(&reference, data))
        .unwrap();
    std::fs::rename(&mount, &away).unwrap();
    // one has to read, and one has to put
    let (execution, _) = trigger(&line, 1, reference);
    line.trigger("twice", [("put".to_owned(), "y".repeat(400 << 10))]);
    let keys = (0..200).map(|n| (format!("k-{}", n % 7), n.to_string()));
    line.trigger("g", keys);
    // both wait in front of what came behind them in their partitions; the others have run
    let run = line.results_so_far(50);
    assert!(of(&run, execution).is_empty());
    std::fs::rename(&away, &mount).unwrap();
    let results = line.results(202);
    assert!(results.iter().all(|r| r.failure.is_none()));
    line.stop();
    line.results(202);
}
