//! What steps and webhooks reach beyond the process: secrets, from the store or the environment, and the network.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingest::{Finding, Secret, Secrets};
use parking_lot::Mutex;
use processor::web::{SystemNames, WebConfig, World};
use store::{Disposition, SecretsKey, Vault};
use tokio::runtime::Handle;

/// How long a value is used before it is looked up again: how soon a secret that was set anew is known everywhere.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// Values held at once.
const KNOWN_MAX: usize = 10_000;
/// Until accounts exist, the tenant whose secrets may come from the environment of the process.
pub(crate) const TENANT: &str = "default";

/// Secrets by name: those of the store first, then those of the environment.
#[derive(Clone)]
pub(crate) struct SecretsOf {
    vault: Option<Vault>,
    known: Arc<Mutex<HashMap<(String, String), Known>>>,
}

#[derive(Clone)]
struct Known {
    value: Option<Arc<str>>,
    until: Instant,
}

impl SecretsOf {
    pub(crate) fn new(vault: Option<Vault>) -> Self {
        Self {
            vault,
            known: Arc::default(),
        }
    }

    /// `Ok(None)`: it is not set, or cannot be opened with this key. An error: the store does not answer.
    async fn find(&self, tenant: &str, name: &str) -> Result<Option<Arc<str>>, String> {
        let key = (tenant.to_owned(), name.to_owned());
        let now = Instant::now();
        if let Some(known) = self
            .known
            .lock()
            .get(&key)
            .filter(|known| now < known.until)
        {
            return Ok(known.value.clone());
        }
        let kept = match &self.vault {
            None => None,
            Some(vault) => match vault.get(tenant, name).await {
                Ok(kept) => kept,
                Err(error) if error.disposition() == Disposition::Retry => {
                    return Err(error.to_string());
                }
                Err(error) => {
                    tracing::error!(tenant, name, %error, "a secret cannot be used");
                    None
                }
            },
        };
        let value = match kept {
            None if tenant == TENANT => environment(name),
            kept => kept,
        };
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let until = now + KNOWN_FOR;
        known.insert(
            key,
            Known {
                value: value.clone(),
                until,
            },
        );
        Ok(value)
    }
}

impl Secrets for SecretsOf {
    fn get<'a>(&'a self, tenant: &'a str, name: &'a str) -> Finding<'a> {
        Box::pin(async move {
            let found = self.find(tenant, name).await.unwrap_or_else(|error| {
                tracing::warn!(tenant, name, error, "a secret cannot be looked up now");
                None
            });
            found.map(|value| Secret::new(value.as_bytes()))
        })
    }
}

/// A secret of the process's environment.
pub(crate) fn environment(name: &str) -> Option<Arc<str>> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.into())
}

/// What the steps of this process reach.
pub(crate) fn world(secrets: SecretsOf, web: WebConfig, runtime: &Handle) -> anyhow::Result<World> {
    let handle = runtime.clone();
    let find = move |tenant: &str, name: &str| handle.block_on(secrets.find(tenant, name));
    World::new(runtime.clone(), Arc::new(find), web, Arc::new(SystemNames))
        .map_err(anyhow::Error::msg)
}

/// The key in this file; made when it is missing. For one machine.
pub(crate) fn key_of(folder: &Path) -> anyhow::Result<SecretsKey> {
    let path = folder.join("secrets.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => SecretsKey::parse(&text).with_context(|| format!("in {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = SecretsKey::random()?;
            write_private(&path, &key.expose())
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
