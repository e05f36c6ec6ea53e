//! The step that the benches measure: JSON to `serde_json::Value`, one field added, written again.

use serde_json::{Value, json};
use weir_step::{Context, Event, Failure, Output, Step};

struct Json;
weir_step::export!(Json);

impl Step for Json {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let mut value: Value = event.json()?;
        let Some(object) = value.as_object_mut() else {
            return Err(Failure::rejected("not a JSON object"));
        };
        object.insert("enriched".into(), json!({ "by": "step", "n": 42 }));
        Ok(vec![Output::json(Output::OUT, &value)?])
    }
}
