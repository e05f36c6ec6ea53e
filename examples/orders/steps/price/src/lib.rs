//! What each line and the whole order comes to.

use order::{Order, Price};
use weir_step::{Context, Event, Failure, Output, Step};

const DISCOUNT_PERCENT: u64 = 10;
const TAX_PERCENT: u64 = 19;
const SHIPPING_CENTS: u64 = 499;
const SHIPPING_FREE_FROM_CENTS: u64 = 10_000;

struct Pricing;
weir_step::export!(Pricing);

impl Step for Pricing {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let mut order: Order = event.json()?;
        price(&mut order);
        Ok(vec![Output::json(Output::OUT, &order)?])
    }
}

fn price(order: &mut Order) {
    let mut lines_cents = 0;
    for line in &mut order.lines {
        let total = u64::from(line.quantity) * line.unit_cents;
        line.total_cents = Some(total);
        lines_cents += total;
    }
    let discounted = order.customer.vip || order.coupon.is_some();
    let discount_cents = if discounted {
        percent(lines_cents, DISCOUNT_PERCENT)
    } else {
        0
    };
    let goods_cents = lines_cents - discount_cents;
    let shipping_cents = if goods_cents >= SHIPPING_FREE_FROM_CENTS {
        0
    } else {
        SHIPPING_CENTS
    };
    let tax_cents = percent(goods_cents + shipping_cents, TAX_PERCENT);
    order.price = Some(Price {
        lines_cents,
        discount_cents,
        shipping_cents,
        tax_cents,
        total_cents: goods_cents + shipping_cents + tax_cents,
    });
}

/// Rounded half up.
fn percent(cents: u64, percent: u64) -> u64 {
    (cents * percent + 50) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_priced() {
        let mut order: Order = serde_json::from_str(
            r#"{"id":"o","placed_at":"","currency":"EUR","customer":{"id":"","name":"","email":"","vip":true},
            "lines":[{"sku":"a","title":"","quantity":2,"unit_cents":505},{"sku":"b","title":"","quantity":1,"unit_cents":90}],
            "coupon":null,"shipping":{"street":"","zip":"","city":"","country":""},"note":""}"#,
        )
        .unwrap();
        price(&mut order);
        let price = order.price.unwrap();
        assert_eq!(order.lines[0].total_cents, Some(1010));
        assert_eq!(
            (
                price.lines_cents,
                price.discount_cents,
                price.shipping_cents
            ),
            (1100, 110, 499)
        );
        assert_eq!((price.tax_cents, price.total_cents), (283, 1772));
    }
}
