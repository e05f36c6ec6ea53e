//! Adds the total, tax included, to an order.

use serde::{Deserialize, Serialize};
use weir_step::{Context, Event, Failure, Output, Step};

/// What the graph says under `settings`.
#[derive(Deserialize)]
struct Settings {
    percent: u64,
}

#[derive(Deserialize)]
struct Order<'a> {
    id: &'a str,
    cents: u64,
}

#[derive(Serialize)]
struct Priced<'a> {
    id: &'a str,
    cents: u64,
    total: u64,
}

struct Price;
weir_step::export!(Price);

impl Step for Price {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let settings = weir_step::settings()?;
        let event = weir_step::single(input)?;
        Ok(vec![price(&event, &settings)?])
    }
}

fn price(event: &Event, settings: &Settings) -> Result<Output, Failure> {
    let Order { id, cents } = event.json()?;
    let total = cents
        .checked_mul(100 + settings.percent)
        .map(|hundredfold| hundredfold / 100)
        .ok_or_else(|| Failure::rejected(format!("the order {id} is too large")))?;
    Output::json(Output::OUT, &Priced { id, cents, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(data: &str) -> Result<String, Failure> {
        let event = Event {
            edge: "trigger".into(),
            key: None,
            content_type: "application/json".into(),
            headers: Vec::new(),
            data: data.into(),
        };
        price(&event, &Settings { percent: 19 }).map(|output| String::from_utf8_lossy(&output.data).into_owned())
    }

    #[test]
    fn orders_get_their_total() {
        let order = priced(r#"{"id":"a-1","cents":1000}"#);
        assert_eq!(order.ok().as_deref(), Some(r#"{"id":"a-1","cents":1000,"total":1190}"#));
        assert!(matches!(priced(r#"{"id":"a-2"}"#), Err(Failure::Reject(_))));
    }
}
