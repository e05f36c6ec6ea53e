//! Answers `{"settings": …}` with its settings, and the length of the secret that `{"secret": NAME}` names.

use serde::Deserialize;
use weir_step::{Context, Event, Failure, Output, Step, secrets, settings};

#[derive(Deserialize)]
struct Order {
    secret: Option<String>,
}

struct Asks;
weir_step::export!(Asks);

impl Step for Asks {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let order: Order = event.json()?;
        if let Some(name) = order.secret {
            let value = secrets::get(&name);
            return Ok(vec![Output::new(Output::OUT, value.len().to_string())]);
        }
        let settings: serde_json::Value = settings()?;
        Ok(vec![Output::json(Output::OUT, &settings)?])
    }
}
