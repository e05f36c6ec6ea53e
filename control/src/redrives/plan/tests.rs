//! What a letter becomes, or why not.

use schemas::Event;
use schemas::records::EdgeEvent;
use serde_json::json;

use super::*;

const AT_MS: i64 = 1_800_000_000_000;
const VERSION: [u8; 32] = [7; 32];
const OLD: [u8; 32] = [8; 32];
const GRAPH: &str = "weir: 1
name: orders
triggers:
  shop: { manual: {} }
  bus: { topic: { name: orders.in, format: raw, from: latest } }
steps:
  check: { uses: ./check.wasm, from: [shop, bus] }
  bill: { uses: ./bill.wasm, from: [check], hop: event.data.customer }
";

fn graphs() -> Graphs {
    let mut graphs = Graphs::default();
    graphs.put("orders", VERSION, GRAPH);
    assert!(graphs.active("orders").unwrap().graph.is_some());
    graphs
}

fn letter(topic: &str) -> DeadLetter {
    DeadLetter {
        id: "3-42".into(),
        graph: Some("orders".into()),
        version: Some(hex::encode(VERSION)),
        execution: None,
        step: Some("check".into()),
        kind: "rejected".into(),
        reason: "why".into(),
        attempt: 1,
        topic: topic.into(),
        partition: 1,
        offset: 9,
        died_at_ms: 5,
        purged_at_ms: None,
    }
}

fn before() -> ExecutionId {
    ExecutionId::derive(1, TENANT, "orders", "shop", "d-1")
}

fn trigger() -> Trigger {
    Trigger {
        tenant: TENANT.into(),
        graph: "orders".into(),
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: before(),
        time_us: 1_000,
        origin: None,
        key: Some(Bytes::from_static(b"ada")),
        content_type: "application/json".into(),
        headers: vec![("traceparent".into(), Bytes::from_static(b"00-x"))],
        data: Payload::Inline(Bytes::from_static(b"{}")),
    }
}

fn hop() -> Hop {
    let event = Event {
        data: Bytes::from_static(b"{}"),
        ..Event::default()
    };
    Hop {
        tenant: TENANT.into(),
        graph: "orders".into(),
        version: VERSION,
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: before(),
        time_us: 1,
        segment: [9; 16],
        step: "bill".into(),
        attempt: 3,
        events: vec![EdgeEvent {
            edge: "check.out".into(),
            event,
            reference: None,
        }],
    }
}

fn original(key: &[u8], value: &Bytes, headers: &Value) -> Original {
    Original {
        key: Some(key.to_vec()),
        value: Some(value.to_vec()),
        headers: headers.to_string(),
    }
}

fn redriving(version: Version) -> Redriving<'static> {
    Redriving {
        id: "r",
        version,
        at_ms: AT_MS,
    }
}

fn header<'a>(outgoing: &'a Outgoing, name: &str) -> Vec<&'a [u8]> {
    let headers = outgoing.record.headers.iter();
    let of_it = headers.filter(|(of, _)| of == name);
    of_it.map(|(_, value)| &**value).collect()
}

#[test]
fn a_trigger_is_a_new_execution_of_the_same_event() {
    let headers = json!([["traceparent", "00-x"], ["odd", {"base16": "ff00"}]]);
    let original = original(b"ada", &trigger().encode(), &headers);
    let letter = letter(catalog::TRIGGERS);
    let planned = redrive(&letter, &original, &graphs(), redriving(Version::Recorded)).unwrap();
    assert_eq!(
        (&*planned.topic, planned.partition),
        (catalog::TRIGGERS, None)
    );
    let record = &planned.record;
    assert_eq!(
        (record.key.as_deref(), record.timestamp_ms),
        (Some(&b"ada"[..]), AT_MS)
    );
    let became = Trigger::decode(record.value.as_ref().unwrap()).unwrap();
    let execution = ExecutionId::derive(AT_MS as u64, TENANT, "orders", "shop", "redrive:r:3-42");
    let expected = Trigger {
        trigger_id: "redrive:r:3-42".into(),
        execution,
        time_us: AT_MS as u64 * 1_000,
        origin: Some("3-42".into()),
        ..trigger()
    };
    assert_eq!(became, expected);
    assert_eq!(record.headers[0].0, "traceparent");
    assert_eq!(header(&planned, "odd"), [b"\xff\x00"]);
    assert_eq!(header(&planned, headers::REDRIVE), [b"r"]);
    assert_eq!(header(&planned, headers::ORIGIN), [b"3-42"]);
    assert_eq!(header(&planned, headers::FIRST_ORIGIN), [b"3-42"]);
    assert!(header(&planned, headers::VERSION).is_empty());

    let original_version = redriving(Version::Original);
    let planned = redrive(&letter, &original, &graphs(), original_version).unwrap();
    assert_eq!(
        header(&planned, headers::VERSION),
        [hex::encode(VERSION).as_bytes()]
    );
}

#[test]
fn what_was_redriven_before_keeps_its_first_origin_and_no_version() {
    let headers = json!([
        [headers::VERSION, "old"],
        [headers::REDRIVE, "q"],
        [headers::ORIGIN, "0-2"],
        [headers::FIRST_ORIGIN, "0-1"]
    ]);
    let execution = before().to_string();
    let original = original(execution.as_bytes(), &trigger().encode(), &headers);
    let letter = letter(catalog::TRIGGERS);
    let planned = redrive(&letter, &original, &graphs(), redriving(Version::Active)).unwrap();
    assert_eq!(header(&planned, headers::REDRIVE), [b"r"]);
    assert_eq!(header(&planned, headers::ORIGIN), [b"3-42"]);
    assert_eq!(header(&planned, headers::FIRST_ORIGIN), [b"0-1"]);
    assert!(header(&planned, headers::VERSION).is_empty());
    let became = Trigger::decode(planned.record.value.as_ref().unwrap()).unwrap();
    assert_eq!(
        planned.record.key.as_deref(),
        Some(became.execution.to_string().as_bytes()),
        "a key that was the execution is the new one"
    );
}

#[test]
fn a_hop_begins_again_at_its_step_in_its_version_or_the_active_one() {
    let mut graphs = graphs();
    let old = Hop {
        version: OLD,
        ..hop()
    };
    let original = original(&before().0, &old.encode(), &json!([]));
    let letter = letter(catalog::HOPS);
    let gone = redrive(&letter, &original, &graphs, redriving(Version::Recorded)).unwrap_err();
    assert!(gone.contains("--version active"), "{gone}");
    graphs.put("another", OLD, GRAPH);
    for (version, runs) in [
        (Version::Recorded, OLD),
        (Version::Original, OLD),
        (Version::Active, VERSION),
    ] {
        let planned = redrive(&letter, &original, &graphs, redriving(version)).unwrap();
        assert_eq!(&*planned.topic, catalog::HOPS);
        let became = Hop::decode(planned.record.value.as_ref().unwrap()).unwrap();
        let execution =
            ExecutionId::derive(AT_MS as u64, TENANT, "orders", "shop", "redrive:r:3-42");
        let expected = Hop {
            version: runs,
            trigger_id: "redrive:r:3-42".into(),
            execution,
            segment: execution.0,
            time_us: AT_MS as u64 * 1_000,
            attempt: 1,
            ..hop()
        };
        assert_eq!(became, expected);
        assert_eq!(planned.record.key.as_deref(), Some(&execution.0[..]));
        assert_eq!(header(&planned, headers::ORIGIN), [b"3-42"]);
    }
    let moved = Hop {
        step: "gone".into(),
        ..hop()
    };
    let original = super::tests::original(b"k", &moved.encode(), &json!([]));
    let refused = redrive(&letter, &original, &graphs, redriving(Version::Active)).unwrap_err();
    assert!(refused.contains("no step \"gone\""), "{refused}");
}

#[test]
fn a_user_topic_s_record_becomes_a_trigger_with_its_bytes() {
    let mut found = original(
        b"ada",
        &Bytes::from_static(b"\xff\x00"),
        &json!([["h", "1"]]),
    );
    let letter = letter("orders.in");
    let planned = redrive(&letter, &found, &graphs(), redriving(Version::Recorded)).unwrap();
    assert_eq!(&*planned.topic, catalog::TRIGGERS);
    let became = Trigger::decode(planned.record.value.as_ref().unwrap()).unwrap();
    assert_eq!(
        (&*became.trigger, &*became.content_type),
        ("bus", CONTENT_TYPE)
    );
    assert_eq!(
        became.data,
        Payload::Inline(Bytes::from_static(b"\xff\x00"))
    );
    assert_eq!(became.headers, [("h".to_owned(), Bytes::from_static(b"1"))]);
    assert_eq!(became.key.as_deref(), Some(&b"ada"[..]));
    // without key and value
    (found.key, found.value) = (None, None);
    let planned = redrive(&letter, &found, &graphs(), redriving(Version::Recorded)).unwrap();
    let became = Trigger::decode(planned.record.value.as_ref().unwrap()).unwrap();
    assert_eq!(became.data, Payload::default());
    assert_eq!(
        planned.record.key.as_deref(),
        Some(became.execution.to_string().as_bytes())
    );
    let other = DeadLetter {
        topic: "elsewhere".into(),
        ..letter
    };
    let refused = redrive(&other, &found, &graphs(), redriving(Version::Recorded)).unwrap_err();
    assert!(refused.contains("no trigger"), "{refused}");
}

#[test]
fn what_cannot_be_redriven_is_refused_with_the_way_out() {
    let good = original(b"k", &trigger().encode(), &json!([]));
    let at = letter(catalog::TRIGGERS);
    let with = |change: &dyn Fn(&mut DeadLetter, &mut Trigger), version| {
        let (mut letter, mut trigger) = (letter(catalog::TRIGGERS), trigger());
        change(&mut letter, &mut trigger);
        let original = original(b"k", &trigger.encode(), &json!([]));
        redrive(&letter, &original, &graphs(), redriving(version)).unwrap_err()
    };
    let (recorded, of_original) = (Version::Recorded, Version::Original);
    for (said, refused) in [
        (
            "was purged",
            with(&|l, _| l.purged_at_ms = Some(1), recorded),
        ),
        ("apply it", with(&|_, t| t.graph = "gone".into(), recorded)),
        (
            "no trigger \"gone\"",
            with(&|_, t| t.trigger = "gone".into(), recorded),
        ),
        ("which version", with(&|l, _| l.version = None, of_original)),
        (
            "--version active",
            with(&|l, _| l.version = Some("ab".into()), of_original),
        ),
        (
            "more than the",
            with(
                &|_, t| t.data = Payload::Inline(vec![b'x'; 1 << 20].into()),
                recorded,
            ),
        ),
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    for (topic, value) in [
        (catalog::TRIGGERS, &b"no record"[..]),
        (catalog::HOPS, b""),
        (catalog::RESULTS, b"x"),
    ] {
        let original = Original {
            key: None,
            value: Some(value.to_vec()),
            headers: "[]".into(),
        };
        let refused = redrive(&letter(topic), &original, &graphs(), redriving(recorded));
        assert!(refused.unwrap_err().contains("purge it"));
    }
    let damaged = Original {
        headers: "[[1]]".into(),
        ..good
    };
    assert!(redrive(&at, &damaged, &graphs(), redriving(recorded)).is_err());
}

#[test]
fn a_purge_goes_to_the_letter_s_own_partition() {
    let letter = letter(catalog::TRIGGERS);
    let planned = purge(&letter, AT_MS).unwrap();
    assert_eq!(
        (&*planned.topic, planned.partition),
        (catalog::DEAD_LETTERS, Some(3))
    );
    assert_eq!(planned.record.value, None);
    assert_eq!(header(&planned, headers::PURGE), [b"3-42"]);
    let of_the_sink = DeadLetter {
        id: "weir.results-1-5".into(),
        ..letter
    };
    assert_eq!(purge(&of_the_sink, AT_MS).unwrap().partition, None);
}
