//! What Avro costs a record on this machine: bytes → JSON → bytes, with and without apache-avro's values between.
//! `cargo run --release -p schemas --example avro [RECORDS]`

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it measures, and tells what it measured"
)]

use std::hint::black_box;
use std::time::Instant;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::avro::Avro;

const SCHEMA: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "customer", "type": "string"}, {"name": "email", "type": ["null", "string"]},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "paid", "type": "boolean"},
    {"name": "total", "type": "double"}, {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "SENT"]}},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "count", "type": "int"}, {"name": "price", "type": "double"}]}}},
    {"name": "tags", "type": {"type": "map", "values": "string"}}, {"name": "note", "type": ["null", "string"]}]}"#;

const ORDER: &str = r#"{"id":123456789,"customer":"Ada Lovelace","email":"ada@example.org","at":"2024-12-31T23:59:59.123Z","paid":true,"total":129.95,"state":"SENT","lines":[{"sku":"A-1000-BLUE","count":2,"price":19.99},{"sku":"B-2000-RED","count":1,"price":89.97}],"tags":{"channel":"web","country":"DE"},"note":"please ring twice, and leave it with the neighbours if nobody answers"}"#;

fn main() {
    let count: u32 = std::env::args()
        .nth(1)
        .map_or(200_000, |text| text.parse().unwrap());
    let avro = Avro::parse(SCHEMA, &[]).unwrap();
    let (mut body, mut json) = (Vec::new(), Vec::new());
    avro.from_json(ORDER.as_bytes(), &mut body).unwrap();
    println!("{} bytes of Avro, {} of JSON", body.len(), ORDER.len());
    let order = body.clone();
    timed("Avro to JSON", count, || {
        json.clear();
        avro.to_json(black_box(&order), &mut json).unwrap();
    });
    timed("JSON to Avro", count, || {
        body.clear();
        avro.from_json(black_box(ORDER.as_bytes()), &mut body)
            .unwrap();
    });
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    timed("apache-avro: Avro to JSON", count, || {
        let value = reader.read_value(&mut black_box(&order[..])).unwrap();
        let value = serde_json::Value::try_from(value).unwrap();
        black_box(serde_json::to_vec(&value).unwrap());
    });
    let value = reader.read_value(&mut &order[..]).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    timed("apache-avro: its value to Avro", count, || {
        body.clear();
        writer.write_value(&mut body, value.clone()).unwrap();
    });
}

fn timed(what: &str, count: u32, mut once: impl FnMut()) {
    let begun = Instant::now();
    for _ in 0..count {
        once();
    }
    println!("{what}: {:?}", begun.elapsed() / count);
}
