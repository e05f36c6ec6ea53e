//! Every role in one process on the embedded log, in one folder or in memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use control::{Grants, MissingTopics};
use ingest::IngestConfig;
use processor::ProcessorConfig;
use processor::web::WebConfig;
use store::{PayloadSettings, Payloads, Store, Vault};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use topics::{Embedded, Log, catalog};

use crate::roles::{self, Destinations, Front, Line, Parts, Server, now_ms, signals::Signals};

/// How often the embedded log drops what is past its topics' retention.
const RETENTION: Duration = Duration::from_secs(60);
/// Of a user's topic, which is made when the first graph names it.
const USER_PARTITIONS: u32 = 4;
const HEALTH: Duration = Duration::from_millis(500);
/// How long the lanes may take to get their partitions from a log in this very process.
const JOIN: Duration = Duration::from_secs(10);

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
    pub(super) destinations: Destinations,
    pub(super) web: WebConfig,
}

/// The running roles.
pub(super) struct Roles {
    runtime: Runtime,
    front: Front,
    server: Server,
    retention: JoinHandle<()>,
    line: Line,
}

impl Roles {
    pub(super) fn start(config: RolesConfig) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the threads")?;
        let front = Front::new();
        let (embedded, store, folder) = match config.place {
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
        let payloads = format!("file:{}", folder.join("payloads").display());
        let vault_store = store.clone();
        let parts = Parts {
            roles: roles::all(),
            log,
            store,
            payloads: Some(Payloads::open(&PayloadSettings::of(payloads))?),
            ingest: IngestConfig::default(),
            processing: ProcessorConfig::default(),
            claimed: None,
            history: folder.join("history.db"),
            destinations: config.destinations,
            modules: folder.join("modules"),
            api_key: config.api_key,
            grants: Grants::everything(),
            missing_topics: MissingTopics::Created {
                partitions: USER_PARTITIONS,
            },
            vault: Some(Vault::new(vault_store, roles::key_of(&folder)?)),
            web: config.web,
            registry: None,
        };
        let line = Line::start(parts, runtime.handle())?;
        let deadline = Instant::now() + JOIN;
        while !line.look(&front.board) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        front.open(line.behind());
        let server = Server::start(front.clone(), config.listen, &runtime)?;
        let retention = runtime.spawn(retain(embedded));
        Ok(Self {
            runtime,
            front,
            server,
            retention,
            line,
        })
    }

    pub(super) fn url(&self) -> &str {
        self.server.url()
    }

    /// Until somebody asks to stop, or a role cannot go on.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let mut health = tokio::time::interval(HEALTH);
            let mut signals = Signals::new().context("cannot wait for signals")?;
            loop {
                tokio::select! {
                    () = signals.next() => return Ok(()),
                    _ = health.tick() => {
                        self.line.look(&self.front.board);
                        if let (false, said) = self.front.board.health() {
                            bail!("a role cannot go on: {said}; the lines above say why");
                        }
                    }
                }
            }
        })
    }

    /// Finishes what is under way.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.front.board.stopping();
        self.front.close();
        self.retention.abort();
        let stopped = self.line.stop();
        self.runtime.block_on(self.server.stop());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        stopped
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
