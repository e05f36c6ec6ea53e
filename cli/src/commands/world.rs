//! What steps reach when they run in this process for one command: secrets of its environment, and HTTP only where it was asked for.

use std::sync::Arc;

use processor::wasm::{Ask, HttpError, Outside, Sending};
use processor::web::{SystemNames, WebConfig, World};
use tokio::runtime::Runtime;

use crate::roles::environment;

pub(super) struct Here {
    runtime: Runtime,
    /// `None`: nobody is called.
    world: Option<World>,
}

impl Here {
    pub(super) fn new(allow_http: bool) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let world = allow_http.then(|| {
            let secrets = Arc::new(|_: &str, name: &str| Ok(environment(name)));
            let (handle, names) = (runtime.handle().clone(), Arc::new(SystemNames));
            World::new(handle, secrets, WebConfig::default(), names)
        });
        Ok(Self {
            world: world.transpose().map_err(anyhow::Error::msg)?,
            runtime,
        })
    }
}

impl Outside for Here {
    fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<str>>, String> {
        Ok(environment(name))
    }

    fn send(&self, ask: Ask) -> Sending {
        match &self.world {
            Some(world) => world.send(ask),
            None => {
                let denied = HttpError::Denied(
                    "nobody is called from here; --allow-http has it called".into(),
                );
                Box::pin(std::future::ready(Err(denied)))
            }
        }
    }

    fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        Some(self.runtime.handle())
    }
}
