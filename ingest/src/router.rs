//! What ingest holds, and its routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, post};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError};
use schemas::records::INLINE_BYTES_MAX;
use store::{Change, Payloads, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use topics::{Append, Log};

use crate::problem::Problem;
use crate::targets::Targets;
use crate::{Clock, IngestConfig, Secrets, manual, webhook};

/// What ingest works with.
#[derive(Clone)]
pub struct Components {
    pub log: Arc<dyn Log>,
    pub store: Store,
    /// Where bodies go that are too large for a record; `None`: they are refused.
    pub payloads: Option<Payloads>,
    pub secrets: Arc<dyn Secrets>,
    pub clock: Clock,
}

/// The state of the routes. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    pub(crate) parts: Arc<Parts>,
}

pub(crate) struct Parts {
    pub(crate) config: IngestConfig,
    pub(crate) appender: Arc<dyn Append>,
    pub(crate) store: Store,
    pub(crate) payloads: Option<Payloads>,
    /// One permit for each large body that is held in memory.
    pub(crate) large: Arc<Semaphore>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) clock: Clock,
    pub(crate) webhooks: Targets,
    pub(crate) manuals: Targets,
}

impl Ingest {
    /// `config` has to be valid (`IngestConfig::validate`).
    pub fn new(config: IngestConfig, components: Components) -> Self {
        let Components {
            log,
            store,
            payloads,
            secrets,
            clock,
        } = components;
        let targets = || Targets::new(config.targets_max, config.target_ttl_ms);
        let (webhooks, manuals) = (targets(), targets());
        let parts = Parts {
            appender: log.appender(),
            store,
            payloads,
            large: Arc::new(Semaphore::new(config.large_bodies_max as usize)),
            secrets,
            clock,
            webhooks,
            manuals,
            config,
        };
        Self {
            parts: Arc::new(parts),
        }
    }

    /// To be told of each change of a graph, so that the next request sees it; without it, it takes `target_ttl_ms`.
    pub fn follow(&self, change: &Change) {
        self.forget(&change.tenant, &change.graph);
    }

    /// As `follow`, where only the graph is known.
    pub fn forget(&self, tenant: &str, graph: &str) {
        self.parts.webhooks.forget(tenant, graph);
        self.parts.manuals.forget(tenant, graph);
    }
}

/// All routes.
pub fn router(ingest: Ingest) -> Router {
    hooks(ingest.clone()).merge(api(ingest))
}

/// `/hooks/{tenant}/{path}`: open to the world, each hook by its own signature.
pub fn hooks(ingest: Ingest) -> Router {
    Router::new()
        .route("/hooks/{tenant}/{*path}", any(webhook::receive))
        .with_state(ingest)
}

/// What lies below `/api/v1`: to be put behind the API's own door.
pub fn api(ingest: Ingest) -> Router {
    Router::new()
        .route(
            "/api/v1/graphs/{graph}/triggers/{trigger}",
            post(manual::one),
        )
        .route(
            "/api/v1/graphs/{graph}/triggers/{trigger}/batch",
            post(manual::batch),
        )
        .with_state(ingest)
}

/// A request's body.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    /// Held until the request is answered.
    _large: Option<OwnedSemaphorePermit>,
}

impl Ingest {
    /// The largest body of one event.
    pub(crate) fn body_bytes_max(&self) -> u64 {
        let configured = self.parts.config.body_bytes_max;
        match self.parts.payloads {
            Some(_) => configured,
            None => configured.min(INLINE_BYTES_MAX as u64),
        }
    }

    pub(crate) fn too_large(&self) -> Problem {
        let bytes_max = self.body_bytes_max();
        if bytes_max < self.parts.config.body_bytes_max {
            return Problem::too_large_without_payloads(bytes_max);
        }
        Problem::too_large(bytes_max)
    }

    /// Reads the body of one event.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
        let bytes_max = self.body_bytes_max();
        let announced = announced(headers);
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(self.too_large());
        }
        let timeout_ms = self.parts.config.body_timeout_ms;
        if announced.is_some_and(|bytes| bytes <= INLINE_BYTES_MAX as u64) {
            let bytes = read(headers, body, bytes_max, timeout_ms).await?;
            return Ok(Read {
                bytes,
                _large: None,
            });
        }
        self.read_large(body, Instant::now() + Duration::from_millis(timeout_ms))
            .await
    }

    /// Whoever only says that much will come, or sends little, holds nobody up: a permit is taken for what has come.
    async fn read_large(&self, mut body: Body, deadline: Instant) -> Result<Read, Problem> {
        let (mut bytes, mut large) = (Vec::new(), None);
        loop {
            let frame = timeout_at(deadline, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Problem::slow())? else {
                break;
            };
            let frame = frame.map_err(|_| Problem::cut())?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if (bytes.len() + data.len()) as u64 > self.body_bytes_max() {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&data);
            if bytes.len() > INLINE_BYTES_MAX && large.is_none() {
                let permit = self.parts.large.clone().acquire_owned();
                let permit = timeout_at(deadline, permit).await;
                let permit = permit.ok().and_then(Result::ok);
                large = Some(permit.ok_or_else(Problem::busy)?);
            }
        }
        Ok(Read {
            bytes: Bytes::from(bytes),
            _large: large,
        })
    }
}

/// Hashing and parsing a large body takes longer than others should wait for: it goes to a thread of its own.
pub(crate) async fn unhurried<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::unavailable())?
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Reads a body that is no larger than this and does not take too long.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    timeout_ms: u64,
) -> Result<Bytes, Problem> {
    if announced(headers).is_some_and(|bytes| bytes > bytes_max) {
        return Err(Problem::too_large(bytes_max));
    }
    let body = axum::body::to_bytes(body, bytes_max as usize);
    match tokio::time::timeout(Duration::from_millis(timeout_ms), body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error))
            if std::error::Error::source(&error)
                .is_some_and(|source| source.is::<LengthLimitError>()) =>
        {
            Err(Problem::too_large(bytes_max))
        }
        Ok(Err(_)) => Err(Problem::cut()),
        Err(_) => Err(Problem::slow()),
    }
}

/// Counts what became of a trigger.
pub(crate) fn count(kind: &'static str, outcome: &'static str, triggers: u64) {
    metrics::counter!("weir_triggers_total", "kind" => kind, "outcome" => outcome)
        .increment(triggers);
}

pub(crate) fn outcome(accepted: &Result<crate::accept::Accepted, Problem>) -> &'static str {
    match accepted {
        Ok(accepted) if accepted.duplicate => "duplicate",
        Ok(_) => "accepted",
        Err(problem) => problem.outcome,
    }
}
