//! What ingest holds, and its routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, post};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::LengthLimitError;
use store::{Change, Store};
use topics::{Append, Log};

use crate::problem::Problem;
use crate::targets::Targets;
use crate::{Clock, IngestConfig, Secrets, manual, webhook};

/// What ingest works with.
#[derive(Clone)]
pub struct Components {
    pub log: Arc<dyn Log>,
    pub store: Store,
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
            secrets,
            clock,
        } = components;
        let targets = || Targets::new(config.targets_max, config.target_ttl_ms);
        let (webhooks, manuals) = (targets(), targets());
        let parts = Parts {
            appender: log.appender(),
            store,
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

/// Reads a body that is no larger than this and does not take too long.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    timeout_ms: u64,
) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
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
        Ok(Err(_)) => Err(Problem::body(
            "the body ended early or is no HTTP body; send it again",
        )),
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
