//! The HTTP client of the control plane: one place that turns an answer into an exit code and a message.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::exit::{Exit, Failure};

/// The largest answer taken.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A server's API.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    api_key: Option<String>,
}

/// What a server said no to: its status and its problem document.
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) problem: Value,
}

impl Client {
    /// `url`: scheme, host and port; a path in front of `/api` is kept.
    pub(crate) fn new(url: &str, api_key: Option<String>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(Failure::usage(format!(
                "\"{url}\" is no address of a server; write it as http://HOST:PORT"
            )));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(120)))
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            url,
            api_key,
        })
    }

    /// `path` begins with `/api/v1/…`.
    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.try_get(path, query)?
            .map_err(|refused| refused.into_failure())
    }

    /// As `get`, with the server's no as a value.
    pub(crate) fn try_get(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Result<Value, Refused>, Failure> {
        let mut request = self.agent.get(self.address(path));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.call())
    }

    pub(crate) fn post(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        self.send(self.agent.post(self.address(path)), content_type, body)
    }

    /// As `post`, with the server's no as a value.
    pub(crate) fn try_post(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Result<Value, Refused>, Failure> {
        self.try_send(self.agent.post(self.address(path)), content_type, body)
    }

    pub(crate) fn put(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        self.send(self.agent.put(self.address(path)), content_type, body)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let mut request = self.agent.delete(self.address(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.call())?
            .map_err(|refused| refused.into_failure())
    }

    fn send(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        content_type: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        self.try_send(request, content_type, body)?
            .map_err(|refused| refused.into_failure())
    }

    fn try_send(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        content_type: &str,
        body: &[u8],
    ) -> Result<Result<Value, Refused>, Failure> {
        let mut request = request.content_type(content_type);
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.read(request.send(body))
    }

    /// Follows `next` until there are `limit` items or no more; `{"items": […], "next": …}`.
    pub(crate) fn list(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: u32,
    ) -> Result<Value, Failure> {
        let limit = limit as usize;
        let mut items = Vec::new();
        let mut next = Value::Null;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (limit - items.len()).min(200).to_string()));
            if let Some(cursor) = next.as_str() {
                query.push(("cursor", cursor.to_owned()));
            }
            let mut page = self.get(path, &query)?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            next = page["next"].take();
            if next.is_null() || items.len() >= limit {
                items.truncate(limit);
                return Ok(serde_json::json!({ "items": items, "next": next }));
            }
        }
    }

    /// The command that downloads something; it does not repeat the key.
    pub(crate) fn download(&self, path: &str) -> String {
        let key = match self.api_key {
            Some(_) => " -H \"authorization: Bearer $WEIR_API_KEY\"",
            None => "",
        };
        format!("curl -fsS{key} -o output '{}'", self.address(path))
    }

    /// The bytes of an answer that is no JSON.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let mut request = self.agent.get(self.address(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        let mut answer = request.call().map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let bytes = body
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&status) {
            return Ok(bytes);
        }
        let problem = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Err(Refused { status, problem }.into_failure())
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn bearer(&self) -> Option<String> {
        self.api_key.as_ref().map(|key| format!("Bearer {key}"))
    }

    fn read(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Result<Value, Refused>, Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        let parsed = serde_json::from_str::<Value>(&text);
        if (200..300).contains(&status) {
            return match parsed {
                Ok(value) => Ok(Ok(value)),
                Err(_) if text.is_empty() => Ok(Ok(Value::Null)),
                Err(_) => Err(Failure::failed(format!(
                    "{} answered with something that is no JSON; is it a Weir server?",
                    self.url
                ))),
            };
        }
        Ok(Err(Refused {
            status,
            problem: parsed.unwrap_or(Value::Null),
        }))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let reason = match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                return Failure::usage(format!(
                    "\"{}\" is no address of a server: {error}",
                    self.url
                ));
            }
            ureq::Error::Io(io) => io.to_string(),
            other => other.to_string(),
        };
        Failure::new(
            Exit::Unreachable,
            format!(
                "no server at {} ({reason})\nstart one with `weir dev`, or say where it is with --url or WEIR_URL",
                self.url
            ),
        )
    }
}

impl Refused {
    /// The message that a person gets, and the exit code.
    pub(crate) fn into_failure(self) -> Failure {
        let exit = match self.status {
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            _ => Exit::Failed,
        };
        let problem = &self.problem;
        let said = problem["detail"].as_str().or(problem["title"].as_str());
        let mut message = said.map_or_else(
            || format!("the server answered {}", self.status),
            str::to_owned,
        );
        for found in problem["problems"].as_array().into_iter().flatten() {
            let text = found
                .as_str()
                .or(found["message"].as_str())
                .unwrap_or_default();
            message.push_str("\n  - ");
            message.push_str(text);
            if let Some(help) = found["help"].as_str() {
                message.push_str("\n    help: ");
                message.push_str(help);
            }
        }
        if self.status == 401 {
            message.push_str("\ngive the key with --api-key or WEIR_API_KEY");
        }
        Failure { exit, message }
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: u16, problem: Value) -> Failure {
        Refused { status, problem }.into_failure()
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, exit) in [
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (422, Exit::Failed),
            (500, Exit::Failed),
            (503, Exit::Failed),
        ] {
            assert_eq!(refused(status, Value::Null).exit, exit, "{status}");
        }
    }

    #[test]
    fn problems_are_listed() {
        let failure = refused(
            422,
            json!({"title": "t", "detail": "2 problems", "problems": ["one", {"message": "two", "help": "do"}]}),
        );
        assert_eq!(
            failure.message,
            "2 problems\n  - one\n  - two\n    help: do"
        );
        assert_eq!(refused(502, Value::Null).message, "the server answered 502");
    }

    #[test]
    fn nobody_there_names_the_address_and_the_way_out() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .map(|a| a.port())
            .expect("a port");
        let client = Client::new(&format!("http://127.0.0.1:{port}/"), None).expect("an address");
        let failure = client
            .get("/api/v1/graphs", &[])
            .expect_err("nobody listens");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(
            failure.message.contains(&port.to_string()) && failure.message.contains("weir dev"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn addresses_and_names() {
        assert_eq!(
            Client::new("localhost:8080", None).err().map(|f| f.exit),
            Some(Exit::Usage)
        );
        assert_eq!(segment("a/b ?ä"), "a%2Fb%20%3F%C3%A4");
    }
}
