//! Asks each of `{"urls": […]}` and answers with what came of it: `STATUS BODY`, or the error's name. `{"post": TEXT}` is the body
//! of a POST.

use serde::Deserialize;
use weir_step::http::{get, post};
use weir_step::{Context, Event, Failure, Output, Step};

#[derive(Deserialize)]
struct Order {
    urls: Vec<String>,
    post: Option<String>,
}

struct Http;
weir_step::export!(Http);

impl Step for Http {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let order: Order = event.json()?;
        let ask = |url: &String| {
            let request = match &order.post {
                Some(body) => post(url.clone(), body.clone()),
                None => get(url.clone()),
            };
            match request.send() {
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => format!("{error:?}"),
            }
        };
        let answers: Vec<String> = order.urls.iter().map(ask).collect();
        Ok(vec![Output::json(Output::OUT, &answers)?])
    }
}
