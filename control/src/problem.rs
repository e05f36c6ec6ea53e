//! What a client gets when something is not as it should be: `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use store::{PayloadError, StoreError};
use topics::LogError;

use crate::history::HistoryError;

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    /// Everything that is wrong, one by one; texts or `{message, help, line, column}`.
    problems: Vec<Value>,
    retry_after_s: Option<u32>,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            problems: Vec::new(),
            retry_after_s: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn unprocessable(detail: impl Into<String>, problems: Vec<Value>) -> Self {
        Self {
            problems,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    /// Worth another try after a while.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// Something else does not answer just now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
    }

    /// Our own fault; the log has the rest.
    pub(crate) fn internal(what: &str) -> Self {
        tracing::error!(what, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{what}; the server's log says more"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.problems.is_empty() {
            body["problems"] = Value::Array(self.problems);
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound { .. } | StoreError::NoVersion { .. } => {
                return Self::not_found(error.to_string());
            }
            StoreError::Circle { .. } => return Self::unprocessable(error.to_string(), Vec::new()),
            // in the way of the request, but not for long
            StoreError::Burying { .. } => {
                return Self::new(StatusCode::CONFLICT, error.to_string()).retry_after(1);
            }
            _ => {}
        }
        match error.disposition() {
            store::Disposition::Retry | store::Disposition::Full => {
                tracing::warn!(%error, "the store cannot be used just now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(5)
            }
            store::Disposition::Reject => Self::new(StatusCode::CONFLICT, error.to_string()),
            store::Disposition::Invalid => Self::internal(&error.to_string()),
        }
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        match error.disposition() {
            store::Disposition::Retry | store::Disposition::Full => {
                Self::unavailable(error.to_string())
            }
            // it was there; that it is not is for somebody to look at
            store::Disposition::Reject => {
                tracing::error!("{error}");
                Self::new(StatusCode::GONE, error.to_string())
            }
            store::Disposition::Invalid => Self::internal(&error.to_string()),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        if let LogError::Denied { .. } = error {
            return Self::unprocessable(error.to_string(), Vec::new());
        }
        match error.disposition() {
            topics::Disposition::Retry => {
                tracing::warn!(%error, "the log cannot be asked just now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(5)
            }
            _ => Self::internal(&error.to_string()),
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unavailable { .. } => {
                tracing::warn!(%error, "the history cannot be read just now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(1)
            }
            HistoryError::Damaged { .. } => Self::internal(&error.to_string()),
        }
    }
}
