//! Any GitHub webhook → one [`Activity`]. Takes what GitHub sends, down to `{}`; rejects only what is no JSON object.

mod payload;
mod time;

use activity::{Activity, Text};
use weir_step::{Context, Event, Failure, Output, Step};

use payload::{Payload, Wrapped};

struct Normalise;
weir_step::export!(Normalise);

impl Step for Normalise {
    fn handle(ctx: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        if event.data.starts_with(b"payload=") {
            return Err(Failure::rejected(
                "a form was sent; set the webhook's content type to application/json",
            ));
        }
        if let Some(kind) = event.header_text("x-github-event") {
            return output(kind, event.json()?, ctx);
        }
        // Sent by hand: `{"event": KIND, "payload": {…}}`, or the bare payload.
        match event.json::<Wrapped>() {
            Ok(Wrapped { event, payload }) => {
                let payload = serde_json::from_str(payload.get());
                let payload = payload.map_err(|e| {
                    Failure::rejected(format!("\"payload\" is no event of GitHub: {e}"))
                })?;
                output(&event, payload, ctx)
            }
            Err(_) => output("unknown", event.json()?, ctx),
        }
    }
}

fn output(kind: &str, payload: Payload, ctx: &Context) -> Result<Vec<Output>, Failure> {
    let Payload {
        repository,
        organization,
        ..
    } = payload;
    let mut time = payload.time.value.or(repository.updated_at);
    if time.is_none() {
        time = time::rfc3339(ctx.time_us).into();
    }
    let activity = Activity {
        kind: kind.into(),
        action: payload.action,
        repo: repository.full_name.or(organization.login),
        actor: payload.sender.login.or(payload.pusher.name),
        time,
        title: payload.title.value,
        url: payload.url.value.or(repository.html_url),
        number: payload.number.value,
        counts: payload.counts,
        finding: payload.finding,
        category: Text::default(),
        bot: false,
    };
    Ok(vec![Output::json(Output::OUT, &activity)?])
}

#[cfg(test)]
mod tests;
