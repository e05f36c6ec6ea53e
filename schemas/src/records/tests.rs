//! Golden bytes, and apache-avro as the oracle of the codec by hand.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Event, ExecutionId};

const ID: ExecutionId = ExecutionId([
    1, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0x8a, 7, 0x88, 9, 10, 11, 12, 13, 14, 15,
]);

fn trigger() -> Trigger {
    Trigger {
        tenant: "default".into(),
        graph: "orders".into(),
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: ID,
        time_us: 1_700_000_000_123_456,
        origin: None,
        key: Some(Bytes::from_static(b"ada")),
        content_type: "application/json".into(),
        headers: vec![("x-event".into(), Bytes::from_static(b"\xff\x00"))],
        data: Payload::Inline(Bytes::from_static(b"{\"total\":1}")),
    }
}

fn hop() -> Hop {
    Hop {
        tenant: "default".into(),
        graph: "orders".into(),
        version: [7; 32],
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: ID,
        time_us: 1,
        segment: [9; 16],
        step: "bill".into(),
        attempt: 1,
        events: vec![
            EdgeEvent {
                edge: "stamp.out".into(),
                event: Event {
                    key: None,
                    content_type: "text/plain".into(),
                    headers: vec![],
                    data: Bytes::from_static(b"x"),
                },
                reference: None,
            },
            EdgeEvent {
                edge: "price.out".into(),
                event: Event {
                    key: Some(Bytes::from_static(b"k")),
                    ..Event::default()
                },
                reference: Some(([3; 32], 600_000)),
            },
        ],
    }
}

fn result() -> SegmentResult {
    SegmentResult {
        tenant: "default".into(),
        graph: "orders".into(),
        version: [7; 32],
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: ID,
        time_us: 1_700_000_000_123_456,
        segment: ID.0,
        origin: Some("replay".into()),
        failure: Some(Failure {
            step: Some("price".into()),
            kind: FailureKind::Timeout,
            reason: "too slow".into(),
            attempt: 2,
        }),
        outputs: vec![Output {
            step: "stamp".into(),
            port: "out".into(),
            number: 0,
            sinks: vec!["rows".into()],
            key: None,
            content_type: "application/json".into(),
            headers: vec![("a".into(), Bytes::from_static(b"b"))],
            data: Payload::Inline(Bytes::from_static(b"{}")),
        }],
        started: vec![[9; 16]],
        logs: vec![LogLine {
            step: "price".into(),
            level: "warn".into(),
            message: "slow".into(),
        }],
        logs_dropped: 3,
    }
}

/// The oracle reads our body, writes the same bytes, and must use all of them.
fn oracle(schema: &str, record: &Bytes) -> Value {
    let schema = Schema::parse_str(schema).unwrap();
    let mut rest = &record[5..];
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes left", rest.len());
    let mut written = Vec::new();
    GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value(&mut written, value.clone())
        .unwrap();
    assert_eq!(hex::encode(&record[5..]), hex::encode(written));
    value
}

#[test]
fn golden_bytes_never_change() {
    for (name, ours, golden) in [
        (
            "trigger",
            trigger().encode(),
            include_str!("../../golden/trigger.1.hex"),
        ),
        (
            "hop",
            hop().encode(),
            include_str!("../../golden/hop.1.hex"),
        ),
        (
            "result",
            result().encode(),
            include_str!("../../golden/result.1.hex"),
        ),
    ] {
        assert_eq!(hex::encode(&ours), golden.trim(), "{name}");
    }
    let bytes = |text: &str| Bytes::from(hex::decode(text.trim()).unwrap());
    assert_eq!(
        Trigger::decode(&bytes(include_str!("../../golden/trigger.1.hex"))).unwrap(),
        trigger()
    );
    assert_eq!(
        Hop::decode(&bytes(include_str!("../../golden/hop.1.hex"))).unwrap(),
        hop()
    );
    assert_eq!(
        SegmentResult::decode(&bytes(include_str!("../../golden/result.1.hex"))).unwrap(),
        result()
    );
}

#[test]
fn apache_avro_reads_and_writes_the_same_bytes() {
    let Value::Record(fields) = oracle(TRIGGER_SCHEMA, &trigger().encode()) else {
        panic!("no record")
    };
    assert_eq!(
        fields[3],
        ("trigger_id".into(), Value::String("d-1".into()))
    );
    oracle(
        TRIGGER_SCHEMA,
        &Trigger {
            data: Payload::Reference {
                sha256: [1; 32],
                bytes: 9,
            },
            key: None,
            ..trigger()
        }
        .encode(),
    );
    oracle(HOP_SCHEMA, &hop().encode());
    oracle(RESULT_SCHEMA, &result().encode());
    oracle(
        RESULT_SCHEMA,
        &SegmentResult {
            failure: None,
            outputs: vec![],
            started: vec![],
            logs: vec![],
            ..result()
        }
        .encode(),
    );
}

#[test]
fn a_record_with_a_registrys_id_is_read() {
    let mut bytes = trigger().encode().to_vec();
    bytes[1..5].copy_from_slice(&[0, 0, 1, 7]);
    assert_eq!(Trigger::decode(&bytes.into()).unwrap(), trigger());
}

#[test]
fn an_array_in_several_blocks_or_with_sizes_is_read() {
    // [-1, size, item, 1, item, 0]: both forms of a block (Avro specification, "Arrays").
    let body = Bytes::from_static(&[1, 2, 6, 2, 8, 0]);
    let mut reader = avro::Reader::new(&body, 0);
    assert_eq!(reader.array(avro::Reader::long).unwrap(), [3, 4]);
}

#[test]
fn bad_bytes_have_a_reason() {
    let good = trigger().encode();
    let check = |bytes: &[u8], reason: &str| {
        assert_eq!(
            Trigger::decode(&Bytes::copy_from_slice(bytes))
                .unwrap_err()
                .to_string(),
            reason
        );
    };
    check(b"", "the record has no value");
    check(
        b"{}",
        "the record starts with byte 0x7b instead of the wire format's 0x00",
    );
    // an id of some registry: only its bytes say that it is no trigger
    check(&[0, 0, 0, 0, 9, 1], "a negative length, at byte 5");
    check(
        &hop().encode(),
        "schema id 0x80000201 is not one of Weir's for a Trigger",
    );
    check(
        &good[..20],
        "the record ends in the middle of a field, at byte 20",
    );
    check(
        &[&good[..], &[0]].concat(),
        "bytes after the record's end, at byte 102",
    );
}

fn letter() -> DeadLetter {
    DeadLetter {
        tenant: "default".into(),
        topic: "weir.triggers".into(),
        partition: 3,
        offset: 42,
        kind: FailureKind::Rejected,
        reason: "no total".into(),
        attempt: 1,
        graph: Some("orders".into()),
        version: None,
        execution: Some(ID),
        step: Some("check".into()),
    }
}

/// As a line each, for the golden text.
fn told(headers: &[(String, Bytes)]) -> String {
    let line = |(name, value): &(String, Bytes)| format!("{name}={}\n", value.escape_ascii());
    headers.iter().map(line).collect()
}

#[test]
fn a_dead_letter_says_where_it_came_from_and_keeps_the_originals_headers() {
    let letter = letter();
    let header = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    // in order, twice the same name, no value, no UTF-8, and names that could be taken for ours
    let original = vec![
        header("traceparent", b"00-x"),
        header("b", b"1"),
        header("a", b"\xff\x00"),
        header("b", b"1"),
        header("", b""),
        header("weir-dead-step", b"mine"),
        header("weir-dead-letter", b"mine, too"),
    ];
    let mut headers = original.clone();
    headers.extend(letter.headers());
    assert_eq!(
        told(&headers),
        include_str!("../../golden/dead_letter.headers")
    );
    assert_eq!(DeadLetter::from_headers(&headers).unwrap(), letter);
    assert_eq!(DeadLetter::original_headers(&headers), original);
    let nowhere = DeadLetter {
        step: None,
        ..letter.clone()
    };
    let mut headers = original.clone();
    headers.extend(nowhere.headers());
    assert_eq!(
        DeadLetter::from_headers(&headers).unwrap(),
        nowhere,
        "the original's header is not ours"
    );
    assert!(DeadLetter::from_headers(&original).is_err());
    assert_eq!(DeadLetter::original_headers(&original), original);
}

#[test]
fn a_letter_written_again_with_all_its_headers_may_die_again() {
    let first = letter();
    let again = DeadLetter {
        offset: 77,
        graph: None,
        ..letter()
    };
    let mut headers = vec![("traceparent".to_owned(), Bytes::from_static(b"00-x"))];
    headers.extend(first.headers());
    let died_once = headers.clone();
    headers.extend(again.headers());
    assert_eq!(DeadLetter::from_headers(&headers).unwrap(), again);
    assert_eq!(
        DeadLetter::original_headers(&headers),
        died_once,
        "byte by byte what was read"
    );
    assert_eq!(DeadLetter::all_of(&headers), [first, again]);
}

proptest! {
    #[test]
    fn decoding_never_panics(cut in 0usize..200, at in 0usize..200, byte: u8) {
        for good in [trigger().encode(), hop().encode(), result().encode()] {
            let mut bytes = good.to_vec();
            bytes.truncate(cut);
            if let Some(target) = bytes.get_mut(at) { *target = byte; }
            let bytes = Bytes::from(bytes);
            // Whatever is read is read again the same.
            if let Ok(read) = Trigger::decode(&bytes) { prop_assert_eq!(Trigger::decode(&read.encode()).unwrap(), read); }
            if let Ok(read) = Hop::decode(&bytes) { prop_assert_eq!(Hop::decode(&read.encode()).unwrap(), read); }
            if let Ok(read) = SegmentResult::decode(&bytes) { prop_assert!(SegmentResult::decode(&read.encode()).is_ok()); }
        }
    }

    #[test]
    fn any_originals_headers_are_found_again(names: Vec<String>, odd in 0usize..4, value: Vec<u8>) {
        let mut original: Vec<_> = names.into_iter().map(|n| (n, Bytes::from(value.clone()))).collect();
        for name in ["weir-dead-tenant", "weir-dead-reason", "weir-dead-topic"].iter().take(odd) {
            original.insert(original.len() / 2, ((*name).to_owned(), Bytes::from(value.clone())));
        }
        let mut headers = original.clone();
        headers.extend(letter().headers());
        prop_assert_eq!(DeadLetter::original_headers(&headers), original);
        prop_assert_eq!(DeadLetter::from_headers(&headers).unwrap(), letter());
    }

    #[test]
    fn any_trigger_survives(id: String, time_us in 0u64..1 << 60, key: Option<Vec<u8>>, data: Vec<u8>, headers: Vec<(String, Vec<u8>)>) {
        let headers = headers.into_iter().map(|(n, v)| (n, Bytes::from(v))).collect();
        let trigger = Trigger { trigger_id: id, time_us, key: key.map(Bytes::from), data: Payload::Inline(data.into()), headers, ..trigger() };
        prop_assert_eq!(Trigger::decode(&trigger.encode()).unwrap(), trigger);
    }
}
