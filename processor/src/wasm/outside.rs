//! What steps reach beyond their sandbox, as the engine sees it: secrets and HTTP. Where they come from is the caller's affair: the
//! store and the network, a test's answers, or the answers of an earlier run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

/// Shared by all instances of a process; called on the threads of workers.
pub trait Outside: Send + Sync {
    /// A tenant's secret. `Ok(None)`: nobody has set it. An error is our own trouble, and the record runs again.
    fn secret(&self, tenant: &str, name: &str) -> Result<Option<Arc<str>>, String>;

    /// Sends one request. Runs on tokio; it ends by `ask.until` at the latest. Nothing is followed: a redirect is an answer.
    fn send(&self, ask: Ask) -> Sending;

    /// Where `send` runs; `None`: there is no HTTP here.
    fn runtime(&self) -> Option<&tokio::runtime::Handle>;
}

/// An answer under way.
pub type Sending = Pin<Box<dyn Future<Output = Result<Answer, HttpError>> + Send>>;

/// A request of a step.
#[derive(Debug)]
pub struct Ask {
    pub tenant: Arc<str>,
    /// `host` (https, port 443) or `host:port`: what the graph grants.
    pub allow: Arc<[String]>,
    /// Whole, with its idempotency key; the URI is absolute.
    pub request: http::Request<Bytes>,
    pub until: Instant,
    /// A larger body of the answer is refused.
    pub answer_bytes_max: usize,
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Bytes)>,
    pub body: Bytes,
}

/// Why there is no answer. The texts are for the step's author: they stand in the execution's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Weir does not let it out: not granted, or an address that is nobody's business.
    #[error("refused: {0}")]
    Denied(String),
    /// The address is private, of this machine or of its neighbourhood.
    #[error("refused: {0}")]
    Address(String),
    #[error("the name cannot be resolved: {0}")]
    Name(String),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the answer cannot be read: {0}")]
    Protocol(String),
    /// It failed so often that it is left alone for a while.
    #[error("{0} failed again and again and is left alone for a moment")]
    Open(String),
}

/// Nothing there: no secret is set, no request leaves.
pub struct Nowhere;

impl Outside for Nowhere {
    fn secret(&self, _: &str, _: &str) -> Result<Option<Arc<str>>, String> {
        Ok(None)
    }

    fn send(&self, _: Ask) -> Sending {
        let denied = HttpError::Denied("there is no HTTP here".into());
        Box::pin(std::future::ready(Err(denied)))
    }

    fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        None
    }
}
