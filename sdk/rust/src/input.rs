//! Reading what came in.

use serde::Deserialize;

use crate::{Context, Event, Failure, json};

impl Event {
    /// The data as JSON. What cannot be read is rejected: no later try will read it either.
    pub fn json<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Failure> {
        let wrong = |e: &dyn std::fmt::Display| {
            Failure::Reject(format!(
                "the event on \"{}\" is not the JSON expected: {e}",
                self.edge
            ))
        };
        // looked at once as a whole, instead of at each of its strings
        let text = json::text(&self.data).map_err(|e| wrong(&e))?;
        json::read(text).map_err(|e| wrong(&e))
    }

    /// The data as text.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.data).map_err(|e| {
            Failure::Reject(format!("the event on \"{}\" is not UTF-8: {e}", self.edge))
        })
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The same as text; `None` too where it is no UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl Context {
    /// The trigger's time since 1970-01-01 UTC.
    pub fn time(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.time_us)
    }
}

/// The one event of a step without `join`.
pub fn single(input: Vec<Event>) -> Result<Event, Failure> {
    let mut events = input.into_iter();
    match (events.next(), events.next()) {
        (Some(event), None) => Ok(event),
        (None, _) => Err(Failure::Fatal(
            "the step was called without an event".into(),
        )),
        (Some(_), Some(_)) => Err(Failure::Fatal(
            "the step takes one event and was given several; it cannot join".into(),
        )),
    }
}

/// The first event that came over the edge `name` (`trigger` or `step.port`); `None` where that branch was silent.
pub fn edge<'a>(input: &'a [Event], name: &str) -> Option<&'a Event> {
    input.iter().find(|event| event.edge == name)
}
