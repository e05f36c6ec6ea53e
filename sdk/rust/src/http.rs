//! HTTP to the hosts that the graph grants (`http: { allow: [api.example.com] }`). Needs the feature `http` of this crate.
//!
//! A redirect is an answer like any other: where it leads has to be granted too. Every request carries an idempotency key, the same for
//! every try of the same request; set `idempotency-key` yourself to have another.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::StreamError;

use crate::Failure;

/// A request, to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout_ms: Option<u64>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// In their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// `GET` of a URL.
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// `POST` to a URL.
pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", url).body(body)
}

impl Request {
    /// Any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// At most so long; never longer than the step's own time limit.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Sends it and waits for the whole answer.
    pub fn send(self) -> Result<Response, ErrorCode> {
        let (scheme, rest) = match self.url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(ErrorCode::HttpRequestUriInvalid),
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let headers =
            Fields::from_list(&self.headers).map_err(|_| ErrorCode::HttpRequestHeaderSize(None))?;
        let request = OutgoingRequest::new(headers);
        let invalid = |()| ErrorCode::HttpRequestUriInvalid;
        request.set_method(&method(&self.method)).map_err(invalid)?;
        request.set_scheme(Some(&scheme)).map_err(invalid)?;
        request.set_authority(Some(authority)).map_err(invalid)?;
        request.set_path_with_query(Some(&path)).map_err(invalid)?;
        let options = RequestOptions::new();
        if let Some(ms) = self.timeout_ms {
            // what cannot be set is the host's default
            _ = options.set_first_byte_timeout(Some(ms.saturating_mul(1_000_000)));
        }
        let body = request.body().map_err(invalid)?;
        let pending = outgoing_handler::handle(request, Some(options))?;
        write(body, &self.body)?;
        pending.subscribe().block();
        match pending.get() {
            Some(Ok(answer)) => read(&answer?),
            _ => Err(ErrorCode::InternalError(None)),
        }
    }

    /// As `send`; what a later try may mend is `Retry`, the rest `Reject`.
    pub fn send_or_fail(self) -> Result<Response, Failure> {
        let shown = format!("{} {}", self.method, self.url.split('?').next().unwrap_or_default());
        self.send().map_err(|error| match error {
            ErrorCode::HttpRequestDenied
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::HttpRequestUriInvalid => Failure::rejected(format!("{shown}: {error:?}")),
            other => Failure::again(format!("{shown}: {other:?}")),
        })
    }
}

impl Response {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ErrorCode> {
    {
        let stream = body.write().map_err(|()| ErrorCode::InternalError(None))?;
        for part in bytes.chunks(4096) {
            // a host that takes no more has its answer already
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    OutgoingBody::finish(body, None)
}

fn read(answer: &IncomingResponse) -> Result<Response, ErrorCode> {
    let mut bytes = Vec::new();
    {
        let body = answer.consume().map_err(|()| ErrorCode::InternalError(None))?;
        let stream = body.stream().map_err(|()| ErrorCode::InternalError(None))?;
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(part) => bytes.extend(part),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => {
                    return Err(ErrorCode::HttpResponseIncomplete);
                }
            }
        }
    }
    Ok(Response {
        status: answer.status(),
        headers: answer.headers().entries(),
        body: bytes,
    })
}
