//! Keeps a count between calls, which a step must not: `{"from": N}` says from which call of an instance on it shows.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use weir_step::{Context, Event, Failure, Output, Step};

static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize)]
struct Order {
    from: u64,
}

struct Keeps;
weir_step::export!(Keeps);

impl Step for Keeps {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let order: Order = event.json()?;
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let shown = if calls >= order.from { calls } else { 0 };
        Ok(vec![Output::new(Output::OUT, shown.to_string())])
    }
}
