//! Imports `weir:step/log`. Writes one line of each level, then the input's `{"lines": N, "bytes": B}` lines of B
//! bytes at level info; passes the input on.

use serde::Deserialize;
use weir_step::{Context, Event, Failure, Output, Step, log};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Order {
    lines: u64,
    bytes: usize,
}

struct Log;
weir_step::export!(Log);

impl Step for Log {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let order: Order = event.json().unwrap_or_default();
        log::debug("a debug line");
        log::info("an info line");
        log::warn("a warning");
        log::error("an error line");
        let line = "x".repeat(order.bytes);
        for _ in 0..order.lines {
            log::info(&line);
        }
        Ok(vec![Output::new(Output::OUT, event.data)])
    }
}
