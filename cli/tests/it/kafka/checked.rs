//! The checker itself: it must see what is wrong, or the other tests prove nothing.

use bytes::Bytes;
use schemas::records::{Output, Payload, SegmentResult, Trigger};
use topics::Log as _;
use topics::catalog::RESULTS;
use xtask::checker::Stranger;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use crate::weir::until;

const ASKED: usize = 1_100;

/// What a copying step would make of a trigger.
pub(super) fn result(trigger: &Bytes) -> SegmentResult {
    let trigger = Trigger::decode(trigger).unwrap();
    SegmentResult {
        tenant: trigger.tenant,
        graph: trigger.graph,
        version: [0; 32],
        trigger: trigger.trigger,
        trigger_id: trigger.trigger_id,
        execution: trigger.execution,
        time_us: trigger.time_us,
        segment: trigger.execution.0,
        origin: None,
        failure: None,
        outputs: vec![Output {
            step: "one".into(),
            port: "out".into(),
            number: 0,
            sinks: vec![],
            key: trigger.key,
            content_type: trigger.content_type,
            headers: vec![],
            data: trigger.data,
        }],
        started: vec![],
        logs: vec![],
        logs_dropped: 0,
    }
}

#[test]
fn the_checker_sees_what_is_lost_doubled_disordered_altered_and_open() {
    let cluster = Cluster::shared();
    let ledger = Ledger::new("checked");
    let mut numbers: Vec<usize> = (0..ASKED).collect();
    numbers.swap(10, 510); // of the same key
    numbers.retain(|number| *number != 3);
    numbers.extend([5, ASKED]);
    let records = numbers.iter().map(|number| {
        let mut outgoing = ledger.trigger(*number);
        let mut result = result(outgoing.record.value.as_ref().unwrap());
        if *number == 20 {
            result.outputs[0].data = Payload::Inline(Bytes::from_static(b"another"));
        }
        outgoing.topic = RESULTS.into();
        outgoing.record.value = Some(result.encode());
        outgoing
    });
    let appender = cluster.log.appender();
    let appended = appender.append(records.collect());
    cluster.runtime.block_on(appended).unwrap();

    let mut aborted = ledger.trigger(0);
    aborted.record.value = Some(result(aborted.record.value.as_ref().unwrap()).encode());
    let stranger = Stranger {
        topic: RESULTS,
        partition: 0,
        transactional_id: "the-checker-s-stranger",
        // longer than a look takes on a machine with other work
        timeout_ms: 15_000,
        key: b"key-0",
        value: aborted.record.value.as_ref().unwrap(),
    };
    stranger.abort(cluster.brokers()).unwrap();
    let wrong = Count {
        lost: 1,
        duplicated: 2,
        disordered: 1,
        altered: 1,
        ..Count::right(ASKED)
    };
    assert_eq!(ledger.look(&cluster, ASKED), wrong);
    stranger.die(cluster.brokers()).unwrap();
    let open = Count {
        hanging: 1,
        ..wrong.clone()
    };
    assert_eq!(ledger.look(&cluster, ASKED), open);
    until("the broker has ended the open transaction", || {
        ledger.look(&cluster, ASKED) == wrong
    });
}
