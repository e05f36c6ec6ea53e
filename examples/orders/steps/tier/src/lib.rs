//! Grades a priced order by what it comes to.

use order::Order;
use weir_step::{Context, Event, Failure, Output, Step};

const GOLD_FROM_CENTS: u64 = 50_000;
const SILVER_FROM_CENTS: u64 = 10_000;

struct Tier;
weir_step::export!(Tier);

impl Step for Tier {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let mut order: Order = event.json()?;
        let Some(price) = &order.price else {
            return Err(Failure::rejected("the order has no price"));
        };
        order.tier = Some(tier(price.total_cents).into());
        Ok(vec![Output::json(Output::OUT, &order)?])
    }
}

fn tier(total_cents: u64) -> &'static str {
    match total_cents {
        GOLD_FROM_CENTS.. => "gold",
        SILVER_FROM_CENTS.. => "silver",
        _ => "bronze",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_belong_to_the_better_tier() {
        assert_eq!(
            [49_999, 50_000, 9_999, 10_000].map(tier),
            ["silver", "gold", "bronze", "silver"]
        );
    }
}
