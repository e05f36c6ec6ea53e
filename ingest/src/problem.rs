//! Bad news as `application/problem+json` (RFC 9457). Never holds a secret or a value out of a body.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use store::{PayloadError, StoreError};
use topics::{Disposition, LogError};

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    /// Places in the body, and what is wrong there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Violation>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    /// For the metric.
    #[serde(skip)]
    pub(crate) outcome: &'static str,
}

/// What is wrong at one place of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// A JSON Pointer; empty: the whole body.
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        outcome: &'static str,
    ) -> Self {
        Self {
            kind,
            title,
            status,
            detail: String::new(),
            errors: Vec::new(),
            retry_after_s: None,
            outcome,
        }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            ..self
        }
    }

    /// Puts a place in front of the detail.
    pub(crate) fn at(self, place: &str) -> Self {
        let detail = format!("{place}: {}", self.detail);
        Self { detail, ..self }
    }

    pub(crate) fn unknown(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "urn:weir:problem:not-found",
            "not found",
            "unknown",
        )
        .detail(what)
    }

    pub(crate) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "urn:weir:problem:method",
            "method not allowed",
            "invalid",
        )
        .detail("send a POST")
    }

    /// One answer for a missing, a malformed and a wrong signature.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "urn:weir:problem:signature",
            "signature missing or wrong",
            "unauthorized",
        )
        .detail(
            "the request is not signed with this webhook's secret; check the secret on both sides",
        )
    }

    pub(crate) fn too_large(bytes_max: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "urn:weir:problem:too-large",
            "body too large",
            "too_large",
        )
        .detail(format!("a body may have {bytes_max} bytes"))
    }

    /// Larger ones could be taken, if there were a place for them.
    pub(crate) fn too_large_without_payloads(bytes_max: u64) -> Self {
        Self::too_large(bytes_max).detail(format!(
            "a body may have {bytes_max} bytes here: larger ones need a place that all processes see; set [payloads] url"
        ))
    }

    pub(crate) fn cut() -> Self {
        Self::body("the body ended early or is no HTTP body; send it again")
    }

    pub(crate) fn body(detail: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "urn:weir:problem:request",
            "bad request",
            "invalid",
        )
        .detail(detail)
    }

    pub(crate) fn slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "urn:weir:problem:timeout",
            "body too slow",
            "invalid",
        )
        .detail("the body did not arrive in time; send it again")
    }

    pub(crate) fn invalid(detail: impl Into<String>, errors: Vec<Violation>) -> Self {
        let problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "urn:weir:problem:body",
            "body not acceptable",
            "invalid",
        );
        Self {
            errors,
            ..problem.detail(detail)
        }
    }

    pub(crate) fn conflict() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:weir:problem:key-reused", "key used for another body", "conflict")
            .detail("this idempotency key or delivery id came with another body before; use a new one for a new event")
    }

    pub(crate) fn not_manual(trigger: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "urn:weir:problem:not-manual",
            "no manual trigger",
            "invalid",
        )
        .detail(format!(
            "trigger \"{trigger}\" is not `manual: {{}}`; only such triggers are started by hand"
        ))
    }

    /// The graph's owner has to put something right; a provider that delivers again later will find it done.
    pub(crate) fn not_ready() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:weir:problem:not-ready",
            "not ready",
            "unavailable",
        );
        Self {
            retry_after_s: Some(60),
            ..problem.detail(
                "this trigger is not set up completely; its owner finds the reason in the log",
            )
        }
    }

    pub(crate) fn full() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:weir:problem:full",
            "no space left",
            "unavailable",
        );
        Self {
            retry_after_s: Some(30),
            ..problem.detail("nothing was taken; send it again later")
        }
    }

    /// More large bodies come than this process holds at once.
    pub(crate) fn busy() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:weir:problem:busy",
            "too many large bodies",
            "unavailable",
        );
        Self {
            retry_after_s: Some(5),
            ..problem.detail("nothing was taken; send it again later")
        }
    }

    pub(crate) fn unavailable() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "urn:weir:problem:unavailable",
            "not available",
            "unavailable",
        );
        Self {
            retry_after_s: Some(1),
            ..problem.detail("it is not known to be taken; send it again")
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "the store refused a trigger");
        match error.disposition() {
            store::Disposition::Full => Self::full(),
            store::Disposition::Retry
            | store::Disposition::Reject
            | store::Disposition::Invalid => Self::unavailable(),
        }
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        // said aloud: nobody else tells the operator
        tracing::warn!("a large body is refused: {error}");
        match error.disposition() {
            store::Disposition::Full => Self::full(),
            store::Disposition::Retry
            | store::Disposition::Reject
            | store::Disposition::Invalid => Self::unavailable(),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        if error.disposition() == Disposition::Invalid {
            // trying again will not help: somebody has to look
            tracing::error!("the log refuses triggers: {error}");
        } else {
            tracing::debug!(%error, "the log refused a trigger");
        }
        match error {
            LogError::TooLarge { bytes_max, .. } => Self::too_large(bytes_max as u64),
            LogError::Full { .. } => Self::full(),
            _ => Self::unavailable(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

fn number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}
