//! The start: brokers, topics, the store and the registry are waited for, each said once and then now and then; then the roles begin.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use control::MissingTopics;
use schemas::records::wire;
use store::{Payloads, Store, Vault};
use tokio::runtime::Handle;
use topics::kafka::admin::Admin;
use topics::registry::register_own;
use topics::{Disposition, Kafka, Log, LogError, Registry, catalog};

use super::plan::Plan;
use crate::exit::Failure;
use crate::roles::{Board, Front, Line, Parts, Role, claim, key_of, passes};

/// How long one attempt to reach the brokers takes.
const REACH: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(500);
/// What goes on to be wrong is said again after so long.
const REMIND: Duration = Duration::from_secs(30);

/// `Ok(None)`: told to stop before everything was there. An error is nothing that waiting helps against.
pub(super) fn start(
    plan: &Plan,
    front: &Front,
    stop: &AtomicBool,
    runtime: &Handle,
) -> anyhow::Result<Option<Line>> {
    let board = &*front.board;
    for (part, waiting) in [
        ("kafka", format!("connecting to {}", plan.kafka.brokers)),
        ("topics", "waiting for kafka".to_owned()),
        ("store", format!("connecting to {}", plan.store_named())),
        ("roles", "waiting for kafka and the store".to_owned()),
    ] {
        board.note(part, Err(waiting));
    }
    let registry = registry(plan, runtime)?;
    if let Some(registry) = &registry {
        board.note("registry", Err(format!("connecting to {}", registry.at())));
    }
    let waits = Waits { board, stop };
    let admin = Admin::new(&plan.kafka)?;
    let reached = waits.until("kafka", || match admin.cluster(REACH) {
        Err(error) if error.disposition() == Disposition::Retry => Ok(Err(format!(
            "cannot reach kafka at {}: {}",
            plan.kafka.brokers,
            reason(error)
        ))),
        reached => Ok(Ok(reached?)),
    })?;
    let Some(cluster) = reached else {
        return Ok(None);
    };
    tracing::info!(
        cluster = cluster.id,
        brokers = cluster.brokers.len(),
        "kafka is reached"
    );

    let log = Arc::new(Kafka::new(plan.kafka.clone())?);
    let created = waits.until("topics", || {
        let topics = catalog::topics();
        if plan.config.topics.create {
            return match log.create_topics(&topics) {
                Err(error) if error.disposition() == Disposition::Retry => {
                    Ok(Err(format!("cannot create topics: {}", reason(error))))
                }
                created => Ok(Ok(created?)),
            };
        }
        let there = match admin.cluster(REACH) {
            Ok(cluster) => cluster.topics,
            Err(error) => return Ok(Err(reason(error))),
        };
        let missing: Vec<&str> = topics
            .iter()
            .map(|spec| &*spec.name)
            .filter(|name| !there.contains(*name))
            .collect();
        if missing.is_empty() {
            return Ok(Ok(()));
        }
        // nobody shows a client a topic that it may not describe
        let hidden = admin.hidden(&missing, REACH).unwrap_or_default();
        Ok(Err(if hidden.is_empty() {
            format!(
                "kafka has no {}; run `weir topics apply`, or start with --create-topics",
                missing.join(", ")
            )
        } else {
            format!(
                "kafka does not let this client see {}; grant what `weir topics rights` lists for its roles",
                hidden.join(", ")
            )
        }))
    })?;
    if created.is_none() {
        return Ok(None);
    }

    let opened = waits.until("store", || {
        match runtime.block_on(open(plan.store.expose())) {
            Ok(store) => Ok(Ok(store)),
            Err(Opening::Later(why)) => Ok(Err(format!("cannot open the store: {why}"))),
            Err(Opening::Never(why)) => Err(Failure::failed(why).into()),
        }
    })?;
    let Some(store) = opened else {
        return Ok(None);
    };

    let payloads = payloads(plan, &store)?;
    if let Some(payloads) = &payloads {
        let checked = waits.until("payloads", || match runtime.block_on(payloads.check()) {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(error.to_string())),
        })?;
        if checked.is_none() {
            return Ok(None);
        }
        tracing::info!(place = payloads.place(), "payloads above 512 KiB are kept");
    }

    if let Some(registry) = &registry {
        // before anything is written: the ids are those that its records carry
        let registered = waits.until("registry", || {
            match runtime.block_on(register_own(registry)) {
                Err(error) if error.disposition() == Disposition::Retry => {
                    Ok(Err(format!("cannot register Weir's schemas: {error}")))
                }
                registered => Ok(Ok(registered?)),
            }
        })?;
        let Some(ids) = registered else {
            return Ok(None);
        };
        tracing::info!(registry = registry.at(), "Weir's schemas are registered");
        wire::use_ids(ids)?;
    }

    std::fs::create_dir_all(&plan.config.data)
        .with_context(|| format!("cannot create the folder {}", plan.config.data.display()))?;
    let secrets_key = match plan.config.secrets.key().map_err(Failure::usage)? {
        // for one machine it can lie there
        None if !store.is_shared() => Some(key_of(&plan.config.data)?),
        key => key,
    };
    let web = plan.config.http.web().map_err(Failure::usage)?;
    let started = waits.until("roles", || {
        let processing = plan.config.processor.lanes();
        // stable names for the lanes' transactional ids, where other processes have lanes too
        let claimed = match plan
            .roles
            .contains(&Role::Processor)
            .then(|| claim(&store, processing.lanes, runtime))
            .transpose()
        {
            Err(error) if error.disposition() == store::Disposition::Retry => {
                return Ok(Err(format!("cannot claim slots for the lanes: {error}")));
            }
            claimed => claimed?,
        };
        let parts = Parts {
            roles: plan.roles.clone(),
            log: log.clone(),
            store: store.clone(),
            payloads: payloads.clone(),
            ingest: plan.config.ingest.config(),
            processing,
            claimed,
            history: plan.config.sink.path.clone(),
            destinations: plan.destinations.clone(),
            modules: plan.config.data.join("modules"),
            api_key: plan.api_key.clone(),
            grants: plan.config.grants(),
            missing_topics: MissingTopics::Refused {
                brokers: plan.kafka.brokers.clone(),
            },
            vault: secrets_key
                .clone()
                .map(|key| Vault::new(store.clone(), key)),
            web: web.clone(),
            registry: registry.clone(),
        };
        match Line::start(parts, runtime) {
            Err(error) if passes(&error) => Ok(Err(format!("cannot start: {error:#}"))),
            started => Ok(Ok(started?)),
        }
    })?;
    if let Some(line) = &started {
        line.look(board);
        front.open(line.behind());
        tracing::info!("the roles run");
    }
    Ok(started)
}

/// The one that the settings name. Nothing is asked of it here.
fn registry(plan: &Plan, runtime: &Handle) -> anyhow::Result<Option<Registry>> {
    let made = plan
        .config
        .registry
        .client()
        .map(|config| Registry::new(config, runtime.clone()));
    made.transpose()
        .map_err(|error| Failure::usage(error.to_string()).into())
}

/// Where the settings say; else a folder of this machine, if no other process needs to see it.
fn payloads(plan: &Plan, store: &Store) -> anyhow::Result<Option<Payloads>> {
    let data = (!store.is_shared()).then_some(plan.config.data.as_path());
    let Some(settings) = plan.config.payloads.settings(data) else {
        tracing::info!("payloads above 512 KiB are refused: no [payloads] url is set");
        return Ok(None);
    };
    let opened = Payloads::open(&settings);
    opened
        .map(Some)
        .map_err(|error| Failure::usage(error.to_string()).into())
}

/// Without our own frame around it.
fn reason(error: LogError) -> String {
    match error {
        LogError::Unavailable { reason } => reason,
        other => other.to_string(),
    }
}

/// Why the store cannot be opened.
pub(crate) enum Opening {
    /// Not just now.
    Later(String),
    Never(String),
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Later(why) | Self::Never(why)) = self;
        f.write_str(why)
    }
}

/// Opens the store at a URL.
pub(crate) async fn open(url: &str) -> Result<Store, Opening> {
    let path = url
        .strip_prefix("sqlite:")
        .map(|path| Path::new(path.trim_start_matches("//")));
    if let Some(folder) = path
        .and_then(Path::parent)
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|e| {
            Opening::Never(format!(
                "cannot create the folder {}: {e}",
                folder.display()
            ))
        })?;
    }
    let opened = match path {
        Some(path) => Store::open(path).await,
        None => Store::connect(url).await,
    };
    opened.map_err(|error| match error.disposition() {
        store::Disposition::Retry => Opening::Later(error.to_string()),
        _ => Opening::Never(error.to_string()),
    })
}

struct Waits<'a> {
    board: &'a Board,
    stop: &'a AtomicBool,
}

impl Waits<'_> {
    /// Tries until it works: an inner error is said and tried again, an outer one ends the start.
    fn until<T>(
        &self,
        part: &'static str,
        mut attempt: impl FnMut() -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<Option<T>> {
        let mut said: Option<(String, Instant)> = None;
        while !self.stop.load(Ordering::Acquire) {
            match attempt()? {
                Ok(done) => {
                    self.board.note(part, Ok(()));
                    return Ok(Some(done));
                }
                Err(reason) => {
                    let anew = said
                        .as_ref()
                        .is_none_or(|(last, at)| *last != reason || at.elapsed() > REMIND);
                    if anew {
                        tracing::warn!("{reason}; trying again");
                        said = Some((reason.clone(), Instant::now()));
                    }
                    self.board.note(part, Err(reason));
                    std::thread::park_timeout(RETRY);
                }
            }
        }
        Ok(None)
    }
}
