//! The world of a test: its secrets, and its answers. Each answer is given once; what it has no answer for is refused and noted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use processor::wasm::{Answer, Ask, HttpError, Outside, Sending};
use processor::web;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::case::{Fail, Mock};

pub(super) struct Mocks {
    secrets: BTreeMap<String, String>,
    state: Mutex<State>,
    runtime: Runtime,
}

struct State {
    left: Vec<Mock>,
    unexpected: Vec<String>,
}

impl Mocks {
    pub(super) fn new(secrets: BTreeMap<String, String>, http: Vec<Mock>) -> std::io::Result<Self> {
        Ok(Self {
            secrets,
            state: Mutex::new(State {
                left: http,
                unexpected: Vec::new(),
            }),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
        })
    }

    /// Requests that nobody expected, and answers that nobody asked for.
    pub(super) fn faults(&self) -> Vec<String> {
        let state = self.state.lock();
        let unexpected = state.unexpected.iter();
        let unexpected = unexpected.map(|asked| format!("an unexpected request: {asked}"));
        let left = state.left.iter();
        let left = left.map(|mock| format!("a request that was never made: {}", mock.request));
        unexpected.chain(left).collect()
    }

    fn answer(&self, ask: &Ask) -> Result<Answer, HttpError> {
        web::granted(ask.request.uri(), &ask.allow)?;
        let asked = format!("{} {}", ask.request.method(), ask.request.uri());
        let mut state = self.state.lock();
        let fits = |mock: &Mock| {
            same_request(&mock.request, &asked)
                && mock
                    .body
                    .as_ref()
                    .is_none_or(|body| value(ask.request.body()) == *body)
        };
        let Some(at) = state.left.iter().position(fits) else {
            let body = String::from_utf8_lossy(ask.request.body()).into_owned();
            state
                .unexpected
                .push(format!("{asked} {body}").trim_end().to_owned());
            return Err(HttpError::Denied(format!(
                "the test has no answer for {asked}"
            )));
        };
        let mock = state.left.remove(at);
        match mock.fail {
            Some(Fail::Timeout) => Err(HttpError::Timeout),
            Some(Fail::Connect) => Err(HttpError::Connect("as the test says".into())),
            None => {
                let headers = mock.answer.headers.into_iter();
                Ok(Answer {
                    status: mock.answer.status,
                    headers: headers.map(|(name, value)| (name, value.into())).collect(),
                    body: bytes(&mock.answer.body),
                })
            }
        }
    }
}

/// A URL without a path is one with `/`.
fn same_request(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.trim().trim_end_matches('/').to_owned();
    plain(a) == plain(b)
}

/// JSON where it is some, else text.
pub(super) fn value(data: &[u8]) -> Value {
    serde_json::from_slice(data)
        .unwrap_or_else(|_| String::from_utf8_lossy(data).into_owned().into())
}

pub(super) fn bytes(value: &Value) -> Bytes {
    match value {
        Value::Null => Bytes::new(),
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}

impl Outside for Mocks {
    fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<str>>, String> {
        Ok(self.secrets.get(name).map(|value| value.as_str().into()))
    }

    fn send(&self, ask: Ask) -> Sending {
        Box::pin(std::future::ready(self.answer(&ask)))
    }

    fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        Some(self.runtime.handle())
    }
}
