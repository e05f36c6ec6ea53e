//! Each type in both directions with apache-avro as the oracle, the texts of errors, and bytes and texts from nobody.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Days, Decimal, Duration, Millis, Months, Schema};

use super::*;

fn avro(schema: &str) -> Avro {
    Avro::parse(schema, &[]).unwrap_or_else(|e| panic!("{schema}: {e}"))
}

fn json(schema: &str, body: &[u8]) -> Result<String, String> {
    let mut out = b"kept".to_vec();
    let read = avro(schema).to_json(body, &mut out);
    let text = String::from_utf8(out.split_off(4)).expect("UTF-8");
    assert_eq!(out, b"kept");
    read.map(|()| text).map_err(|error| error.to_string())
}

fn body(schema: &str, json: &str) -> Result<Vec<u8>, String> {
    let mut out = b"kept".to_vec();
    let written = avro(schema).from_json(json.as_bytes(), &mut out);
    let body = out.split_off(4);
    assert_eq!(out, b"kept");
    if written.is_err() {
        assert!(body.is_empty());
    }
    written.map(|()| body).map_err(|error| error.to_string())
}

fn oracle_writes(schema: &str, value: &Value) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let mut written = Vec::new();
    GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value(&mut written, value.clone())
        .unwrap();
    written
}

fn oracle_reads(schema: &str, mut body: &[u8]) -> Value {
    let schema = Schema::parse_str(schema).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut body).unwrap();
    assert!(body.is_empty());
    value
}

/// The oracle's bytes are this text, this text is the oracle's bytes, and the oracle reads the value in ours.
fn same(schema: &str, value: Value, text: &str) {
    let bytes = oracle_writes(schema, &value);
    assert_eq!(
        json(schema, &bytes).as_deref(),
        Ok(text),
        "{schema} {value:?}"
    );
    let ours = body(schema, text).unwrap_or_else(|e| panic!("{schema} {text}: {e}"));
    assert_eq!(hex::encode(&ours), hex::encode(&bytes), "{schema} {text}");
    let read = oracle_reads(schema, &ours);
    let nan = format!("{value:?}").contains("NaN");
    assert!(nan || read == value, "{schema}: {read:?} for {value:?}");
}

fn logical(kind: &str, of: &str) -> String {
    format!(r#"{{"type": "{kind}", "logicalType": "{of}"}}"#)
}

#[test]
fn primitives() {
    same(r#""null""#, Value::Null, "null");
    same(r#""boolean""#, Value::Boolean(true), "true");
    same(r#""boolean""#, Value::Boolean(false), "false");
    for value in [0, -1, 1, 63, 64, -64, -65, 8191, i32::MIN, i32::MAX] {
        same(r#""int""#, Value::Int(value), &value.to_string());
    }
    for value in [0, -1, i64::MIN, i64::MAX, 1 << 53] {
        same(r#""long""#, Value::Long(value), &value.to_string());
    }
    for (value, text) in [
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (f32::NAN, r#""NaN""#),
        (f32::INFINITY, r#""Infinity""#),
        (f32::NEG_INFINITY, r#""-Infinity""#),
    ] {
        same(r#""float""#, Value::Float(value), text);
    }
    for (value, text) in [
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (-0.0, "-0.0"),
        (f64::NAN, r#""NaN""#),
        (f64::INFINITY, r#""Infinity""#),
        (f64::NEG_INFINITY, r#""-Infinity""#),
    ] {
        same(r#""double""#, Value::Double(value), text);
    }
    same(r#""bytes""#, Value::Bytes(vec![]), r#""""#);
    same(
        r#""bytes""#,
        Value::Bytes(vec![0xff, 0, 1, 2]),
        r#""/wABAg==""#,
    );
    same(
        r#""string""#,
        Value::String("a \"ü\"\n\u{1f600}".into()),
        "\"a \\\"ü\\\"\\n\u{1f600}\"",
    );
    assert_eq!(body(r#""bytes""#, r#""/wABAg""#).unwrap()[0], 8);
    assert_eq!(body(r#""double""#, "1").unwrap(), 1f64.to_le_bytes());
    assert_eq!(body(r#""string""#, r#""\u00fc""#).unwrap(), [4, 0xc3, 0xbc]);
}

#[test]
fn what_is_made_of_others() {
    let fixed = r#"{"type": "fixed", "name": "F", "size": 3}"#;
    same(fixed, Value::Fixed(3, vec![1, 2, 3]), r#""AQID""#);
    let colour = r#"{"type": "enum", "name": "a.Colour", "symbols": ["RED", "BLUE"]}"#;
    same(colour, Value::Enum(1, "BLUE".into()), r#""BLUE""#);
    let array = r#"{"type": "array", "items": "int"}"#;
    same(array, Value::Array(vec![]), "[]");
    same(
        array,
        Value::Array(vec![Value::Int(1), Value::Int(-2)]),
        "[1,-2]",
    );
    let map = r#"{"type": "map", "values": "string"}"#;
    same(
        map,
        Value::Map([("k\"".to_owned(), Value::String("v".into()))].into()),
        r#"{"k\"":"v"}"#,
    );
    let record = r#"{"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "a", "type": ["null", "string"]},
        {"name": "b", "type": {"type": "record", "name": "S", "fields": []}},
        {"name": "c", "type": {"type": "array", "items": "n.S"}}]}"#;
    let value = Value::Record(vec![
        (
            "a".into(),
            Value::Union(1, Box::new(Value::String("x".into()))),
        ),
        ("b".into(), Value::Record(vec![])),
        ("c".into(), Value::Array(vec![Value::Record(vec![])])),
    ]);
    same(record, value, r#"{"a":"x","b":{},"c":[{}]}"#);
    // another order, and white space
    assert_eq!(
        body(record, r#" {"c": [], "b": {}, "a": null} "#).unwrap(),
        [0, 0]
    );
}

#[test]
fn logical_types() {
    for (days, text) in [
        (0, r#""1970-01-01""#),
        (-1, r#""1969-12-31""#),
        (19_782, r#""2024-02-29""#),
        (-719_528, r#""0000-01-01""#),
        (2_932_896, r#""9999-12-31""#),
        (2_932_897, "2932897"),
        (i32::MIN, "-2147483648"),
    ] {
        same(&logical("int", "date"), Value::Date(days), text);
    }
    for (time, text) in [
        (0, r#""00:00:00""#),
        (86_399_999, r#""23:59:59.999""#),
        (3_723_004, r#""01:02:03.004""#),
        (86_400_000, "86400000"),
        (-1, "-1"),
    ] {
        same(
            &logical("int", "time-millis"),
            Value::TimeMillis(time),
            text,
        );
    }
    same(
        &logical("long", "time-micros"),
        Value::TimeMicros(3_723_000_004),
        r#""01:02:03.000004""#,
    );
    let at = 1_735_689_599_000;
    same(
        &logical("long", "timestamp-millis"),
        Value::TimestampMillis(at),
        r#""2024-12-31T23:59:59Z""#,
    );
    same(
        &logical("long", "timestamp-millis"),
        Value::TimestampMillis(-1),
        r#""1969-12-31T23:59:59.999Z""#,
    );
    same(
        &logical("long", "timestamp-micros"),
        Value::TimestampMicros(at * 1000 + 5),
        r#""2024-12-31T23:59:59.000005Z""#,
    );
    same(
        &logical("long", "timestamp-nanos"),
        Value::TimestampNanos(i64::MIN),
        r#""1677-09-21T00:12:43.145224192Z""#,
    );
    same(
        &logical("long", "timestamp-millis"),
        Value::TimestampMillis(i64::MAX),
        "9223372036854775807",
    );
    same(
        &logical("long", "local-timestamp-millis"),
        Value::LocalTimestampMillis(at),
        r#""2024-12-31T23:59:59""#,
    );
    same(
        &logical("long", "local-timestamp-micros"),
        Value::LocalTimestampMicros(1),
        r#""1970-01-01T00:00:00.000001""#,
    );
    same(
        &logical("long", "local-timestamp-nanos"),
        Value::LocalTimestampNanos(1),
        r#""1970-01-01T00:00:00.000000001""#,
    );
    let zoned = |text: &str| body(&logical("long", "timestamp-millis"), text);
    let plain = zoned(r#""2024-12-31T23:59:59.5Z""#).unwrap();
    for text in [
        r#""2025-01-01T01:59:59.500000+02:00""#,
        r#""2024-12-31 20:29:59.5-03:30""#,
        r#""2024-12-31t23:59:59.5z""#,
        "1735689599500",
    ] {
        assert_eq!(zoned(text).unwrap(), plain, "{text}");
    }
    let uuid = uuid::Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
    let text = r#""550e8400-e29b-41d4-a716-446655440000""#;
    same(&logical("string", "uuid"), Value::Uuid(uuid), text);
    let fixed = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
    same(fixed, Value::Uuid(uuid), text);
    let span = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
    same(
        span,
        Value::Duration(Duration::new(
            Months::new(1),
            Days::new(u32::MAX),
            Millis::new(3),
        )),
        r#"{"months":1,"days":4294967295,"millis":3}"#,
    );
}

#[test]
fn decimals() {
    let bytes =
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 2}"#.to_owned();
    let fixed = r#"{"type": "fixed", "name": "F", "size": 30, "logicalType": "decimal", "precision": 60, "scale": 2}"#.to_owned();
    for (unscaled, text) in [
        (vec![0], "0.00"),
        (vec![5], "0.05"),
        (vec![0xfb], "-0.05"),
        (vec![0x7f], "1.27"),
        (vec![0x80], "-1.28"),
        (vec![0, 0x80], "1.28"),
        (vec![0x04, 0xd2], "12.34"),
        (vec![0xfb, 0x2e], "-12.34"),
        (
            [&[1][..], &[0; 16]].concat(),
            "3402823669209384634633746074317682114.56",
        ),
        (
            [&[0xff][..], &[0; 16]].concat(),
            "-3402823669209384634633746074317682114.56",
        ),
        (
            [&[0x40][..], &[0; 19]].concat(),
            "3653754093327257295509212081790707549139831357.44",
        ),
    ] {
        let mut wide = vec![if unscaled[0] >= 0x80 { 0xff } else { 0 }; 30 - unscaled.len()];
        wide.extend_from_slice(&unscaled);
        let quoted = format!("\"{text}\"");
        same(&bytes, Value::Decimal(Decimal::from(&unscaled)), &quoted);
        let read = json(&fixed, &wide).unwrap();
        assert_eq!(read, quoted);
        assert_eq!(body(&fixed, &read).unwrap(), wide, "{text}");
    }
    for (written, text) in [
        ("12", "12.00"),
        ("12.5", "12.50"),
        ("\"12.3400\"", "12.34"),
        ("-0.10", "-0.10"),
        ("\"007\"", "7.00"),
        ("\"+1\"", "1.00"),
        ("\"-0\"", "0.00"),
    ] {
        let body = body(&bytes, written).unwrap();
        assert_eq!(
            json(&bytes, &body).unwrap(),
            format!("\"{text}\""),
            "{written}"
        );
    }
    for wrong in [
        "\"\"",
        "\"1.\"",
        "\".5\"",
        "\"1e3\"",
        "\"--1\"",
        "\"0.001\"",
        "true",
        "\"1,5\"",
        "1e60",
    ] {
        assert!(body(&bytes, wrong).is_err(), "{wrong}");
    }
    let big = logical("bytes", "big-decimal");
    for text in [
        "0",
        "12.340",
        "-0.001",
        "123456789012345678901234567890123456789012345.6",
    ] {
        let quoted = format!("\"{text}\"");
        let bytes = body(&big, &quoted).unwrap();
        assert_eq!(json(&big, &bytes).unwrap(), quoted);
        let Value::BigDecimal(read) = oracle_reads(&big, &bytes) else {
            panic!("no big-decimal")
        };
        assert_eq!(read.to_plain_string(), text);
    }
    // as Java's BigDecimal may be: 5 with scale -3
    assert_eq!(json(&big, &[6, 2, 5, 5]).unwrap(), "\"5000\"");
}

/// A list, each of whose elements holds the next.
const LIST: &str = r#"{"type": "record", "name": "List", "namespace": "a.b", "fields": [
    {"name": "value", "type": "int"}, {"name": "next", "type": ["null", "List"], "default": null}]}"#;

#[test]
fn schemas_that_name_themselves_and_others() {
    assert_eq!(
        json(LIST, &[2, 2, 4, 0]).unwrap(),
        r#"{"value":1,"next":{"value":2,"next":null}}"#
    );
    assert_eq!(
        body(LIST, r#"{"value":1,"next":{"value":2}}"#).unwrap(),
        [2, 2, 4, 0]
    );
    let order = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "customer", "type": "people.Customer"}, {"name": "lines", "type": {"type": "array", "items": "shop.Line"}}]}"#;
    let customer = r#"{"type": "record", "name": "Customer", "namespace": "people", "fields": [{"name": "home", "type": "people.Address"}]}"#;
    let address = r#"{"type": "record", "name": "Address", "namespace": "people", "fields": [{"name": "city", "type": "string"}]}"#;
    let line = r#"{"type": "record", "name": "Line", "namespace": "shop", "fields": [{"name": "price", "type": "long"}]}"#;
    for others in [[customer, address, line], [line, address, customer]] {
        let avro = Avro::parse(order, &others).unwrap();
        let text = br#"{"customer":{"home":{"city":"Bonn"}},"lines":[{"price":3}]}"#;
        let (mut body, mut again) = (Vec::new(), Vec::new());
        avro.from_json(text, &mut body).unwrap();
        avro.to_json(&body, &mut again).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&again),
            String::from_utf8_lossy(text)
        );
    }
    let error = Avro::parse(order, &[customer, line])
        .unwrap_err()
        .to_string();
    assert!(error.contains("people.Address"), "{error}");
    let error = Avro::parse("{", &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("the Avro schema cannot be parsed: "),
        "{error}"
    );
}

#[test]
fn missing_fields_have_their_defaults() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "i", "type": "int", "default": -1},
        {"name": "s", "type": "string", "default": "ü"},
        {"name": "b", "type": "bytes", "default": "\u00ff\u0000"},
        {"name": "u", "type": ["null", "int"], "default": null},
        {"name": "d", "type": {"type": "int", "logicalType": "date"}, "default": 1},
        {"name": "x", "type": "double", "default": 2},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}, "default": "B"},
        {"name": "a", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "m", "type": {"type": "map", "values": "boolean"}, "default": {"k": true}},
        {"name": "r", "type": {"type": "record", "name": "S", "fields": [
            {"name": "p", "type": "int"}, {"name": "q", "type": "int", "default": 7}]}, "default": {"p": 6}}]}"#;
    let written = body(schema, "{}").unwrap();
    assert_eq!(
        json(schema, &written).unwrap(),
        r#"{"i":-1,"s":"ü","b":"/wA=","u":null,"d":"1970-01-02","x":2.0,"e":"B","a":[1,2],"m":{"k":true},"r":{"p":6,"q":7}}"#
    );
}

#[test]
fn the_first_branch_that_fits_is_written() {
    let union = r#"["null", "int", "long", "double", "boolean", "string",
        {"type": "array", "items": "int"},
        {"type": "record", "name": "a.A", "fields": [{"name": "x", "type": "int"}]},
        {"type": "record", "name": "a.B", "fields": [{"name": "x", "type": "string"}]},
        {"type": "map", "values": "int"}]"#;
    for (text, branch) in [
        ("null", 0),
        ("1", 1),
        ("3000000000", 2),
        ("1.5", 3),
        (r#""NaN""#, 3),
        ("true", 4),
        (r#""x""#, 5),
        ("[1]", 6),
        (r#"{"x":1}"#, 7),
        (r#"{"x":"1"}"#, 8),
        (r#"{"y":1}"#, 9),
        // as Avro's own encoding has it, where nothing else fits
        (r#"{"a.B":{"x":"1"}}"#, 8),
        (r#"{"string":"x"}"#, 5),
    ] {
        let written = body(union, text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(written[0], branch * 2, "{text}");
    }
}

#[test]
fn wrong_texts_are_named_with_their_place() {
    let schema = r#"{"type": "record", "name": "Order", "fields": [{"name": "customer", "type": {"type": "record", "name": "Customer", "fields": [
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "price", "type": ["null", "long"]}, {"name": "notes", "type": {"type": "map", "values": "int"}, "default": {}}]}}}]}}]}"#;
    let date = logical("int", "date");
    let millis = logical("long", "timestamp-millis");
    let seen: Vec<String> = [
        (
            schema,
            r#"{"customer":{"lines":[{"price":1},{"price":"1"}]}}"#,
        ),
        (
            schema,
            r#"{"customer":{"lines":[{"price":1,"notes":{"a b":1.5}}]}}"#,
        ),
        (schema, r#"{"customer":{"lines":[{}]}}"#),
        (schema, r#"{"customer":{"lines":[{"prise":1}]}}"#),
        (schema, r#"{"customer":{"lines":[{"price":1,"price":2}]}}"#),
        (schema, r#"{"customer":null}"#),
        (schema, r#"{"customer":"#),
        (schema, "[]"),
        (r#""int""#, "2147483648"),
        (r#""long""#, "9223372036854775808"),
        (r#""long""#, "1.0"),
        (r#""float""#, "1e39"),
        (r#""bytes""#, r#""*""#),
        (r#"["null", "int", "string"]"#, "true"),
        (
            r#"["null", {"type": "map", "values": "int"}]"#,
            r#"{"a":"b"}"#,
        ),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
            r#""B""#,
        ),
        (r#"{"type": "fixed", "name": "F", "size": 2}"#, r#""AAAA""#),
        (&date, r#""2023-02-29""#),
        (&millis, r#""2023-01-01T00:00:00.0001Z""#),
        (&millis, r#""2023-01-01T00:00:00""#),
        (
            &logical("string", "uuid"),
            r#""550e8400e29b41d4a716446655440000""#,
        ),
    ]
    .into_iter()
    .map(|(schema, text)| body(schema, text).expect_err(text))
    .collect();
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn wrong_bytes_are_named_with_their_place() {
    let lines = r#"{"type": "record", "name": "Order", "fields": [{"name": "lines", "type": {"type": "array", "items":
        {"type": "record", "name": "Line", "fields": [{"name": "price", "type": "int"}, {"name": "tags", "type": {"type": "map", "values": "string"}}]}}}]}"#;
    let nulls = r#"{"type": "array", "items": "null"}"#;
    let endless = [0x80; 10];
    let deep = [&[2u8, 2].repeat(100)[..], &[2, 0]].concat();
    let mut many = Vec::new();
    super::write::put_long(&mut many, 1 << 40);
    let mut negative = Vec::new();
    super::write::put_long(&mut negative, i64::MIN);
    negative.push(0);
    let mut huge = Vec::new();
    super::write::put_long(&mut huge, i64::MAX);
    let seen: Vec<String> = [
        (lines, &[2, 2, 2, 2, b'a', 2][..]),
        (lines, &[2, 2, 2, 2, b'a', 2, 0xff]),
        (lines, &[4, 2, 0, 0x80, 0x80, 0x80, 0x80, 0x20]),
        (lines, &[0, 0]),
        (lines, &[]),
        (r#""long""#, &endless),
        (r#""string""#, &[1]),
        (r#""string""#, &huge),
        (r#""boolean""#, &[2]),
        (r#"["null"]"#, &[2]),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, &[3]),
        (nulls, &many),
        (nulls, &negative),
        (nulls, &[1, 1]),
        (LIST, &deep),
    ]
    .into_iter()
    .map(|(schema, bytes)| json(schema, bytes).unwrap_err())
    .collect();
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn arrays_in_several_blocks_and_with_sizes() {
    let array = r#"{"type": "array", "items": "long"}"#;
    assert_eq!(json(array, &[1, 2, 6, 2, 8, 0]).unwrap(), "[3,4]");
    let map = r#"{"type": "map", "values": "long"}"#;
    assert_eq!(
        json(map, &[1, 6, 2, b'a', 6, 2, 2, b'b', 8, 0]).unwrap(),
        r#"{"a":3,"b":4}"#
    );
}

/// All types in one, and data in it.
const ALL: &str = r#"{"type": "record", "name": "All", "namespace": "x.y", "fields": [
    {"name": "i", "type": "int"}, {"name": "l", "type": "long"}, {"name": "f", "type": "float"}, {"name": "d", "type": "double"},
    {"name": "b", "type": "bytes"}, {"name": "s", "type": "string"}, {"name": "o", "type": "boolean"},
    {"name": "x", "type": {"type": "fixed", "name": "X", "size": 2}},
    {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
    {"name": "a", "type": {"type": "array", "items": ["null", "string", "All"]}},
    {"name": "m", "type": {"type": "map", "values": "long"}},
    {"name": "n", "type": {"type": "array", "items": "null"}},
    {"name": "dec", "type": {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 4}},
    {"name": "big", "type": {"type": "bytes", "logicalType": "big-decimal"}},
    {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "date", "type": {"type": "int", "logicalType": "date"}},
    {"name": "time", "type": {"type": "long", "logicalType": "time-micros"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
    {"name": "dur", "type": {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}}]}"#;
const ALL_TEXT: &str = r#"{"i":-5,"l":123456789012,"f":0.5,"d":1.25,"b":"AAEC","s":"text","o":true,"x":"AAE=","e":"B","a":[null,"y"],"m":{"k":1},"n":[null,null],"dec":"-12.3400","big":"1.5","uuid":"550e8400-e29b-41d4-a716-446655440000","date":"2024-02-29","time":"12:00:00","at":"2024-02-29T12:00:00.000000001Z","dur":{"months":1,"days":2,"millis":3}}"#;

/// A generator of numbers that are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

#[test]
fn mutated_bytes_and_texts_never_panic() {
    let avro = avro(ALL);
    let mut good = Vec::new();
    avro.from_json(ALL_TEXT.as_bytes(), &mut good).unwrap();
    assert_eq!(json(ALL, &good).unwrap(), ALL_TEXT);
    let mut random = Seeded(0x5eed);
    let (mut read, mut written) = (0, 0);
    let (mut out, mut again) = (Vec::new(), Vec::new());
    for _ in 0..40_000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, random.below(256) as u8),
                2 => bytes[at] = [0x7f, 0x80, 0xff, 0, 1][random.below(5)],
                _ => bytes[at] ^= 1 << random.below(8),
            }
        }
        out.clear();
        again.clear();
        if avro.to_json(&bytes, &mut out).is_ok() {
            read += 1;
            serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
            // its own text, but for what only writing is strict about
            if let Err(error) = avro.from_json(&out, &mut again) {
                let error = error.to_string();
                let strict =
                    error.contains("expected a UUID") || error.contains("expected a decimal(");
                assert!(strict, "{error}");
            }
        }
        let mut text = ALL_TEXT.as_bytes().to_vec();
        for _ in 0..=random.below(2) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => drop(text.remove(at)),
                1 => text[at] = b"0919-.\"{}[],:ntex"[random.below(17)],
                _ => text.insert(at, b"0919-.\"{}[],:ntex"[random.below(17)]),
            }
        }
        again.clear();
        if avro.from_json(&text, &mut again).is_ok() {
            written += 1;
            out.clear();
            avro.to_json(&again, &mut out).expect("its own bytes");
        }
    }
    assert!(read > 1_000 && written > 1_000, "{read} {written}");
}

#[test]
fn random_bytes_never_panic() {
    let avro = avro(ALL);
    let mut random = Seeded(7);
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(80))
            .map(|_| random.below(256) as u8)
            .collect();
        out.clear();
        if avro.to_json(&bytes, &mut out).is_err() {
            assert!(out.is_empty());
        }
    }
}

#[test]
fn what_comes_out_is_bounded() {
    // a field of nothing with a long name: bytes of JSON for none of Avro
    let name = "n".repeat(1_000);
    let schema = format!(
        r#"{{"type": "array", "items": {{"type": "record", "name": "R", "fields": [{{"name": "{name}", "type": "null"}}]}}}}"#
    );
    let mut bytes = Vec::new();
    super::write::put_long(&mut bytes, 1 << 40);
    let error = json(&schema, &bytes).unwrap_err();
    assert!(error.contains("more than 64 MiB would come out"), "{error}");
    // branches that all fit until the last moment
    let schema = r#"{"type": "record", "name": "A", "fields": [{"name": "x", "type": [
        {"type": "record", "name": "B", "fields": [{"name": "x", "type": ["null", "A", "B"]}]}, "A", "null"]}]}"#;
    let text = format!("{}1{}", "{\"x\":".repeat(30), "}".repeat(30));
    let error = body(schema, &text).unwrap_err();
    assert!(error.contains("more values than"), "{error}");
}

#[test]
fn numbers_above_the_bounds_of_a_long_are_refused_everywhere() {
    assert!(json(r#""long""#, &[0xff; 9]).is_err());
    assert_eq!(
        json(
            r#""long""#,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        )
        .unwrap(),
        i64::MIN.to_string()
    );
    assert!(
        json(
            r#""long""#,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]
        )
        .is_err()
    );
}
