//! HTTP that steps speak: who may be asked, and the one client that asks. A step names a host that its graph grants; its name is
//! resolved here, every address of it is looked at, and the connection goes to the very addresses that were looked at. Nothing is followed:
//! a redirect is an answer, and where it leads is a request of its own.
//!
//! `allow` and `addresses` and `breaker` decide and touch nothing; `client` is the effect.

mod addresses;
mod allow;
mod breaker;
mod client;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use addresses::Networks;
pub use client::{Names, SystemNames, WebConfig};

use crate::wasm::{Ask, HttpError, Outside, Sending};

/// Whether a graph's `http: { allow }` lets a request out; its addresses are not looked at.
pub fn granted(uri: &http::Uri, allow: &[String]) -> Result<(), HttpError> {
    allow::granted(uri, allow)
        .map(drop)
        .map_err(HttpError::Denied)
}

/// Finds a tenant's secret; `None`: nobody has set it; an error: it cannot be asked for now.
pub type SecretSource = Arc<dyn Fn(&str, &str) -> Result<Option<Arc<str>>, String> + Send + Sync>;

/// What the steps of a process reach: secrets and the network.
pub struct World {
    runtime: Handle,
    secrets: SecretSource,
    client: client::Client,
}

impl World {
    /// `runtime`: where requests run. An error says why there can be no HTTP client.
    pub fn new(
        runtime: Handle,
        secrets: SecretSource,
        config: WebConfig,
        names: Arc<dyn Names>,
    ) -> Result<Self, String> {
        Ok(Self {
            runtime,
            secrets,
            client: client::Client::new(config, names)?,
        })
    }
}

impl Outside for World {
    fn secret(&self, tenant: &str, name: &str) -> Result<Option<Arc<str>>, String> {
        (self.secrets)(tenant, name)
    }

    fn send(&self, ask: Ask) -> Sending {
        let client = self.client.clone();
        Box::pin(async move { client.send(ask).await })
    }

    fn runtime(&self) -> Option<&Handle> {
        Some(&self.runtime)
    }
}
