//! All roles of one process: what each is made of, in which order they start, and in which they stop.
//!
//! Started from the end of the line to its beginning, so that nothing is accepted before it can be run; stopped from the
//! beginning to the end, so that what was accepted is run. A crash instead of a stop loses nothing either.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::routing::get;
use control::{Activations, ControlState, History};
use ingest::{Clock, Components, InboxSource, Ingest, IngestConfig, Secret, Secrets};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use processor::wasm::{Engine, EngineConfig};
use processor::{Definitions, Processor, ProcessorConfig};
use schemas::activation::Activation;
use sink::{Sink, SinkConfig, Sqlite};
use store::Store;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use topics::{Embedded, Log, catalog};

use super::signals;

/// How often the embedded log drops what is past its topics' retention.
const RETENTION: Duration = Duration::from_secs(60);
const HEALTH: Duration = Duration::from_millis(500);

/// Where everything is kept.
pub(super) enum Place {
    Folder(PathBuf),
    /// The log and the store in memory; the history, which other connections read, in this folder.
    Memory(PathBuf),
}

pub(super) struct RolesConfig {
    pub(super) place: Place,
    pub(super) listen: SocketAddr,
    pub(super) api_key: Option<String>,
}

/// The running roles.
pub(super) struct Roles {
    runtime: Runtime,
    url: String,
    close: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
    retention: JoinHandle<()>,
    inbox: InboxSource,
    following: Following,
    activations: Arc<Activations>,
    processor: Processor,
    sink: Sink,
    store: Store,
}

impl Roles {
    pub(super) fn start(config: RolesConfig) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the threads")?;
        // Some parts take the runtime from where they are started.
        let entered = runtime.enter();
        let metrics = metrics();
        let (embedded, store, folder) = match &config.place {
            Place::Folder(folder) => {
                let log = Embedded::open(&folder.join("log.db"))?;
                (
                    log,
                    runtime.block_on(Store::open(&folder.join("store.db")))?,
                    folder,
                )
            }
            Place::Memory(folder) => (
                Embedded::memory(),
                runtime.block_on(Store::memory())?,
                folder,
            ),
        };
        let log: Arc<dyn Log> = Arc::new(embedded.clone());
        log.create_topics(&catalog::topics())?;

        let history = folder.join("history.db");
        let sink = Sink::start(
            log.clone(),
            Sqlite::open("history", &history)?,
            SinkConfig::new("history"),
            Arc::new(|| {}),
        )?;
        let engine = Engine::new(EngineConfig {
            cache_dir: Some(folder.join("modules")),
            ..EngineConfig::default()
        })?;
        let processing = ProcessorConfig::default();
        let definitions = Arc::new(Definitions::new(
            store.clone(),
            engine,
            runtime.handle().clone(),
            &processing,
        ));
        let processor = Processor::start(log.clone(), definitions, &processing)?;
        let activations = Arc::new(Activations::start(
            log.clone(),
            store.clone(),
            runtime.handle().clone(),
        )?);

        let clock = Clock::new(now_us);
        let ingesting = IngestConfig::default();
        let inbox = InboxSource::start(log.clone(), &store, clock.clone(), &ingesting)?;
        // Nothing is accepted before what was accepted earlier can be emitted.
        runtime.block_on(inbox.opened());
        let secrets: Arc<dyn Secrets> = Arc::new(environment);
        let ingest = Ingest::new(
            ingesting,
            Components {
                log: log.clone(),
                store: store.clone(),
                secrets,
                clock,
            },
        );

        let following = Following::start(log.clone(), ingest.clone())?;

        let control = ControlState {
            store: store.clone(),
            history: History::open(&history),
            activations: Some(activations.clone()),
            api_key: config.api_key.as_deref().map(Arc::from),
            readiness: Vec::new(),
        };
        let routes = Router::new()
            .route(
                "/metrics",
                get(move || std::future::ready(metrics.render())),
            )
            .merge(ingest::hooks(ingest.clone()))
            .merge(control.guard(ingest::api(ingest)))
            .merge(control::router(control));
        let listener = runtime
            .block_on(TcpListener::bind(config.listen))
            .with_context(|| {
                format!(
                    "cannot listen on {}; is another server there? try --listen 127.0.0.1:0",
                    config.listen
                )
            })?;
        let url = format!("http://{}", listener.local_addr()?);
        let (close, closed) = oneshot::channel::<()>();
        let server = runtime.spawn(async move {
            axum::serve(tcp::NoDelay(listener), routes)
                .with_graceful_shutdown(async {
                    drop(closed.await);
                })
                .await
        });
        let retention = runtime.spawn(retain(embedded));
        drop(entered);
        Ok(Self {
            runtime,
            url,
            close,
            server,
            retention,
            inbox,
            following,
            activations,
            processor,
            sink,
            store,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Until somebody asks to stop, or a role cannot go on.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut health = tokio::time::interval(HEALTH);
            let stop = signals::stop();
            tokio::pin!(stop);
            loop {
                tokio::select! {
                    stopped = &mut stop => return stopped.context("cannot wait for signals"),
                    _ = health.tick() => self.check()?,
                }
            }
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        if !self.processor.healthy() {
            bail!("a lane of the processor has ended; the lines above say why");
        }
        if !self.sink.healthy() {
            bail!("the sink of the history has ended; the lines above say why");
        }
        Ok(())
    }

    /// Finishes what is under way.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        drop(self.close);
        self.runtime.block_on(async {
            // Connections that stay open without asking anything are not waited for.
            let served = tokio::time::timeout(Duration::from_secs(5), self.server).await;
            if let Ok(Ok(Err(e))) = served {
                tracing::warn!("the server ended with: {e}");
            }
            self.inbox.stop().await;
            self.retention.abort();
        });
        self.following.stop();
        let processed = self
            .processor
            .stop()
            .context("the processor did not stop cleanly");
        drop(self.activations);
        let landed = self.sink.stop().context("the sink did not stop cleanly");
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        processed.and(landed)
    }
}

/// Tells ingest of every change of a graph, so that the next request sees it.
struct Following {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Following {
    fn start(log: Arc<dyn Log>, ingest: Ingest) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::Builder::new()
            .name("ingest-follower".into())
            .spawn(move || {
                let forget = |change: &Activation| ingest.forget(&change.tenant, &change.graph);
                processor::follow(&*log, &forget, &flag);
            })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the thread that tells ingest of changed graphs panicked");
        }
    }
}

async fn retain(log: Embedded) {
    let mut every = tokio::time::interval(RETENTION);
    loop {
        every.tick().await;
        let log = log.clone();
        match tokio::task::spawn_blocking(move || log.enforce_retention(now_ms())).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("retention: {e}"),
            Err(e) => tracing::warn!("retention: {e}"),
        }
    }
}

/// Secrets that graphs name come from the environment.
fn environment(_tenant: &str, name: &str) -> Option<Secret> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .map(Secret::new)
}

fn metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("a recorder of metrics was set before");
    }
    handle
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

fn now_ms() -> i64 {
    (now_us() / 1_000) as i64
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
