//! The orders that both sides work on: the n-th is always the same, its key is its id.

use std::fmt::Write as _;

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::records::{Payload, Trigger};

pub(super) const TENANT: &str = "default";
pub(super) const TRIGGER: &str = "shop";

const NAMES: [&str; 8] = [
    "Ada Lovelace",
    "Grace Hopper",
    "Alan Turing",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Tony Hoare",
    "Frances Allen",
    "Ken Thompson",
];
const TITLES: [&str; 8] = [
    "Steel bottle, 750 ml",
    "Cotton shirt, organic, L",
    "Desk lamp with two arms",
    "Notebook, dotted, A5",
    "Headphones, wired",
    "Coffee beans, 1 kg",
    "Bicycle bell, brass",
    "Tent for two persons",
];
const CITIES: [&str; 4] = ["Berlin", "Hamburg", "Lisbon", "Copenhagen"];

/// Numbers that look random and are the same in every run.
struct Mixed(u64);

impl Mixed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

pub(crate) fn key(n: u64) -> String {
    format!("order-{n:09}")
}

/// Which order has this key.
pub(crate) fn number(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key.strip_prefix(b"order-")?)
        .ok()?
        .parse()
        .ok()
}

/// About 0.8 KiB of JSON, with 3 to 5 lines.
pub(crate) fn order(n: u64) -> String {
    let mut mixed = Mixed(n.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut pick = |from: &[&'static str]| from[mixed.below(from.len() as u64) as usize];
    let (name, city) = (pick(&NAMES), pick(&CITIES));
    let mut json = String::with_capacity(1024);
    let customer = mixed.below(100_000);
    let mut add = |text: std::fmt::Arguments<'_>| json.write_fmt(text).expect("a string takes all");
    add(format_args!(
        r#"{{"id":"{}","placed_at":"2026-11-21T09:{:02}:{:02}Z","currency":"EUR","customer":{{"id":"c-{customer:05}","name":"{name}","email":"customer.{customer:05}@mail.example","vip":{}}},"lines":["#,
        key(n),
        n / 60 % 60,
        n % 60,
        mixed.below(8) == 0,
    ));
    for line in 0..3 + mixed.below(3) {
        let comma = if line == 0 { "" } else { "," };
        let title = TITLES[mixed.below(TITLES.len() as u64) as usize];
        add(format_args!(
            r#"{comma}{{"sku":"sku-{:06}","title":"{title}","quantity":{},"unit_cents":{}}}"#,
            mixed.below(1_000_000),
            1 + mixed.below(5),
            199 + mixed.below(20_000),
        ));
    }
    let coupon = if mixed.below(4) == 0 {
        "\"AUTUMN-26\""
    } else {
        "null"
    };
    add(format_args!(
        r#"],"coupon":{coupon},"shipping":{{"street":"{} Harbour Road","zip":"{:05}","city":"{city}","country":"DE"}},"note":"Please ring twice and leave the parcel with the neighbours if nobody opens; the bell of number {} does not work since last spring."}}"#,
        1 + mixed.below(200),
        mixed.below(100_000),
        1 + mixed.below(200),
    ));
    json
}

/// The order as the record that starts an execution of the graph.
pub(crate) fn trigger(n: u64, graph: &str, data: Vec<u8>) -> Bytes {
    trigger_at(n, graph, data, (1_790_000_000_000 + n) * 1_000)
}

/// The same with the time that it says it has.
pub(crate) fn trigger_at(n: u64, graph: &str, data: Vec<u8>, time_us: u64) -> Bytes {
    let trigger_id = key(n);
    Trigger {
        tenant: TENANT.into(),
        graph: graph.into(),
        trigger: TRIGGER.into(),
        execution: ExecutionId::derive(time_us / 1_000, TENANT, graph, TRIGGER, &trigger_id),
        key: Some(Bytes::from(trigger_id.clone())),
        trigger_id,
        time_us,
        origin: None,
        content_type: "application/json".into(),
        headers: Vec::new(),
        data: Payload::Inline(data.into()),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_json_of_the_size_that_is_said_and_stay_the_same() {
        let mut bytes = 0;
        for n in 0..1_000 {
            let text = order(n);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(number(value["id"].as_str().unwrap().as_bytes()), Some(n));
            assert_eq!(text, order(n));
            bytes += text.len();
        }
        let mean = bytes / 1_000;
        assert!((760..880).contains(&mean), "{mean}");
    }
}
