//! Emits `{"n": i}` on the ports that the input names, in that order: `{"ports": ["a", "b", "a"]}`, else on `a`, `b`
//! and `c` once each. With `"keys": true` the key of each output is its port's name.

use serde::Deserialize;
use weir_step::{Context, Event, Failure, Output, Step};

#[derive(Deserialize)]
struct Order {
    #[serde(default = "Order::ports")]
    ports: Vec<String>,
    #[serde(default)]
    keys: bool,
}

impl Order {
    fn ports() -> Vec<String> {
        ["a", "b", "c"].map(String::from).into()
    }
}

struct Fan;
weir_step::export!(Fan);

impl Step for Fan {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let order = event.json().unwrap_or(Order {
            ports: Order::ports(),
            keys: false,
        });
        let output = |(i, port): (usize, String)| {
            let key = order.keys.then(|| port.clone().into_bytes());
            Output {
                key,
                ..Output::new(port, format!("{{\"n\":{i}}}")).with_content_type("application/json")
            }
        };
        Ok(order.ports.into_iter().enumerate().map(output).collect())
    }
}
