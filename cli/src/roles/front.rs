//! The HTTP server: `/healthz`, `/readyz` and `/metrics` from the first moment to the last, and the roles' routes while
//! they run. A request that comes before or after gets 503 and may be sent again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use control::ControlState;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use serde_json::json;
use store::Store;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::board::{Board, Check};

/// How long the store may take to answer `/readyz`.
const STORE: Duration = Duration::from_secs(3);
/// How long requests under way are waited for.
const REQUESTS: Duration = Duration::from_secs(5);

/// What answers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) board: Arc<Board>,
    metrics: PrometheusHandle,
    behind: Arc<Mutex<Option<Behind>>>,
    under_way: Arc<AtomicUsize>,
}

/// What the roles that run bring.
#[derive(Clone)]
pub(crate) struct Behind {
    pub(crate) routes: Router,
    pub(crate) store: Store,
    /// Asked for its dependencies, where the role is there.
    pub(crate) control: Option<ControlState>,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self {
            board: Arc::default(),
            metrics: recorder(),
            behind: Arc::default(),
            under_way: Arc::default(),
        }
    }

    /// From now on requests reach the roles.
    pub(crate) fn open(&self, behind: Behind) {
        *self.behind.lock() = Some(behind);
    }

    /// From now on they do not; returns when those under way are done, or have taken too long.
    pub(crate) fn close(&self) {
        *self.behind.lock() = None;
        let deadline = Instant::now() + REQUESTS;
        while self.under_way.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .route("/metrics", get(metrics))
            .fallback(pass)
            .with_state(self)
    }
}

async fn health(State(front): State<Front>) -> Response {
    answer(front.board.health())
}

async fn readiness(State(front): State<Front>) -> Response {
    let behind = front.behind.lock().clone();
    let mut more: Vec<(&'static str, Check)> = Vec::new();
    if let Some(behind) = behind {
        let asked = async {
            match &behind.control {
                Some(control) => control.checks().await,
                None => vec![(
                    "store",
                    behind
                        .store
                        .changes_after(i64::MAX, 1)
                        .await
                        .map(drop)
                        .map_err(|e| e.to_string()),
                )],
            }
        };
        more = tokio::time::timeout(STORE, asked)
            .await
            .unwrap_or_else(|_| vec![("store", Err(format!("no answer within {STORE:?}")))]);
    } else {
        // every part may be ready a moment before requests are let through
        more.push(("process", Err("starting".to_owned())));
    }
    answer(front.board.readiness(more))
}

async fn metrics(State(front): State<Front>) -> String {
    front.metrics.render()
}

fn answer((well, body): (bool, serde_json::Value)) -> Response {
    let status = if well {
        axum::http::StatusCode::OK
    } else {
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

/// To the roles' routes, counted while it is under way.
async fn pass(State(front): State<Front>, request: Request) -> Response {
    struct UnderWay(Arc<AtomicUsize>);
    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
    front.under_way.fetch_add(1, Ordering::AcqRel);
    let _under_way = UnderWay(front.under_way.clone());
    let routes = front
        .behind
        .lock()
        .as_ref()
        .map(|behind| behind.routes.clone());
    match routes {
        Some(routes) => match routes.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => {
            let problem = json!({
                "type": "about:blank", "title": "Service Unavailable", "status": 503,
                "detail": "weir is starting or stopping; /readyz says what it waits for",
            });
            let headers = [
                ("content-type", "application/problem+json"),
                ("retry-after", "1"),
            ];
            (
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                headers,
                problem.to_string(),
            )
                .into_response()
        }
    }
}

/// A running server.
pub(crate) struct Server {
    url: String,
    close: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) fn start(
        front: Front,
        listen: SocketAddr,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let listener = runtime
            .block_on(TcpListener::bind(listen))
            .with_context(|| {
                format!(
                    "cannot listen on {listen}; is another server there? try --listen 127.0.0.1:0"
                )
            })?;
        let url = format!("http://{}", listener.local_addr()?);
        let (close, closed) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            axum::serve(tcp::NoDelay(listener), front.router())
                .with_graceful_shutdown(async {
                    drop(closed.await);
                })
                .await
        });
        Ok(Self { url, close, task })
    }

    /// Such as `http://127.0.0.1:8080`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Connections that stay open without asking anything are not waited for.
    pub(crate) async fn stop(self) {
        drop(self.close);
        let served = tokio::time::timeout(Duration::from_secs(1), self.task).await;
        if let Ok(Ok(Err(e))) = served {
            tracing::warn!("the server ended with: {e}");
        }
    }
}

fn recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("a recorder of metrics was set before");
    }
    handle
}

/// Answers leave at once: a small answer must not wait for Nagle's algorithm.
mod tcp {
    use axum::serve::Listener;
    use tokio::net::{TcpListener, TcpStream};

    pub(super) struct NoDelay(pub(super) TcpListener);

    impl Listener for NoDelay {
        type Io = TcpStream;
        type Addr = std::net::SocketAddr;

        async fn accept(&mut self) -> (Self::Io, Self::Addr) {
            let (stream, address) = Listener::accept(&mut self.0).await;
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!("set_nodelay: {e}");
            }
            (stream, address)
        }

        fn local_addr(&self) -> std::io::Result<Self::Addr> {
            TcpListener::local_addr(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_ready_before_requests_are_let_through() {
        let front = Front::new();
        front.board.note("lanes", Ok(()));
        let said = readiness(State(front)).await;
        assert_eq!(said.status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
    }
}
