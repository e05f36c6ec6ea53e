//! Refuses an order that nobody could deliver, and counts its pieces.

use order::Order;
use weir_step::{Context, Event, Failure, Output, Step};

const QUANTITY_MAX: u32 = 1_000;
const UNIT_CENTS_MAX: u64 = 10_000_000;

struct Check;
weir_step::export!(Check);

impl Step for Check {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let mut order: Order = event.json()?;
        order.items = Some(items(&order)?);
        Ok(vec![Output::json(Output::OUT, &order)?])
    }
}

fn items(order: &Order) -> Result<u32, Failure> {
    if order.lines.is_empty() {
        return Err(Failure::rejected("the order has no lines"));
    }
    let mut items = 0;
    for line in &order.lines {
        if line.sku.is_empty() {
            return Err(Failure::rejected("a line has no sku"));
        }
        if !(1..=QUANTITY_MAX).contains(&line.quantity) {
            let reason = format!("{} times \"{}\" cannot be ordered", line.quantity, line.sku);
            return Err(Failure::rejected(reason));
        }
        if line.unit_cents > UNIT_CENTS_MAX {
            return Err(Failure::rejected(format!(
                "\"{}\" cannot cost so much",
                line.sku
            )));
        }
        items += line.quantity;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"id":"o","placed_at":"","currency":"EUR","customer":{"id":"","name":"","email":"","vip":false},
        "lines":[{"sku":"a","title":"","quantity":2,"unit_cents":5}],"coupon":null,
        "shipping":{"street":"","zip":"","city":"","country":""},"note":""}"#;

    #[test]
    fn pieces_are_counted_and_nonsense_is_refused() {
        let order: Order = serde_json::from_str(ORDER).unwrap();
        assert_eq!(items(&order).unwrap(), 2);
        for (from, to) in [
            (":2,", ":0,"),
            (":2,", ":1001,"),
            (":5}", ":10000001}"),
            ("\"a\"", "\"\""),
        ] {
            let text = ORDER.replace(from, to);
            let order: Order = serde_json::from_str(&text).unwrap();
            assert!(items(&order).is_err(), "{text}");
        }
    }
}
