//! Emits one JSON object with all that the call was given: `context` and `input`, a list of events (bytes as text).
//! The step for tests of joins and of what a step gets to see.

use serde_json::{Value, json};
use weir_step::{Context, Event, Failure, Output, Step};

struct Echo;
weir_step::export!(Echo);

impl Step for Echo {
    fn handle(ctx: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let event = |event: &Event| {
            json!({
                "edge": event.edge,
                "key": event.key.as_deref().map(text),
                "content_type": event.content_type,
                "headers": event.headers.iter().map(|(name, value)| json!([name, text(value)])).collect::<Vec<Value>>(),
                "data": text(&event.data),
            })
        };
        let seen = json!({
            "context": {
                "tenant": ctx.tenant,
                "graph": ctx.graph,
                "version": ctx.version,
                "execution": ctx.execution,
                "step": ctx.step,
                "attempt": ctx.attempt,
                "time_us": ctx.time_us,
            },
            "input": input.iter().map(event).collect::<Vec<Value>>(),
        });
        Ok(vec![Output::json(Output::OUT, &seen)?])
    }
}
