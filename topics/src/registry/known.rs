//! The registry as the rest of Weir sees it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use schemas::avro::Avro;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::client::Client;
use super::config::RegistryConfig;
use super::error::RegistryError;
use super::framing::SchemaId;
use super::memory::{Heard, Look, Memory};

/// What is known of a schema at this moment.
#[derive(Clone, Debug)]
pub enum Known {
    Schema(Arc<Avro>),
    /// The registry has no such schema, or it is none of Avro, or cannot be parsed. Forgotten after a minute.
    Not(Arc<str>),
    /// Not known yet, for this reason; look again.
    Asking(Arc<str>),
}

/// A schema registry. Clones are the same one.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    /// A schema never changes once it has an id.
    schemas: RwLock<HashMap<SchemaId, Arc<Avro>>>,
    memory: Mutex<Memory>,
    /// Those that ask. They end when this is dropped.
    asking: Mutex<JoinSet<()>>,
    runtime: Handle,
    begun: Instant,
}

impl Registry {
    /// Asks nothing yet. `runtime`: where it asks in the background.
    pub fn new(config: RegistryConfig, runtime: Handle) -> Result<Self, RegistryError> {
        Ok(Self {
            shared: Arc::new(Shared {
                client: Arc::new(Client::new(&config)?),
                schemas: RwLock::default(),
                memory: Mutex::default(),
                asking: Mutex::default(),
                runtime,
                begun: Instant::now(),
            }),
        })
    }

    /// Where it is, without user and password.
    pub fn at(&self) -> &str {
        self.shared.client.at()
    }

    /// From memory only: never waits. What is not known is asked for in the background, so look again in a moment; nothing
    /// is asked for that nobody looks for.
    pub fn known(&self, id: SchemaId) -> Known {
        if let Some(schema) = self.shared.schemas.read().get(&id) {
            return Known::Schema(schema.clone());
        }
        let now = self.shared.begun.elapsed();
        let look = self.shared.memory.lock().look(id, now);
        match look {
            Look::Not(reason) => Known::Not(reason),
            Look::Asking { reason, ask } => {
                if ask {
                    self.ask(id);
                }
                Known::Asking(reason)
            }
        }
    }

    fn ask(&self, id: SchemaId) {
        let client = self.shared.client.clone();
        let mut question = Question {
            shared: Arc::downgrade(&self.shared),
            id,
            answered: false,
        };
        let mut asking = self.shared.asking.lock();
        // those that have ended
        while asking.try_join_next().is_some() {}
        asking.spawn_on(
            async move {
                let answer = client.schema(id).await;
                question.answered(answer);
            },
            &self.shared.runtime,
        );
    }

    /// Registers a schema under a subject, or finds it there; gives its id.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        self.shared.client.register(subject, schema).await
    }

    /// Id and text of a subject's newest schema; `None`: there is no such subject.
    pub async fn latest(&self, subject: &str) -> Result<Option<(u32, String)>, RegistryError> {
        self.shared.client.latest(subject).await
    }

    /// Whether a schema could be registered under a subject; it can where the subject is new.
    pub async fn compatible(&self, subject: &str, schema: &str) -> Result<(), RegistryError> {
        self.shared.client.compatible(subject, schema).await
    }

    /// Whether it answers.
    pub async fn reach(&self) -> Result<(), RegistryError> {
        self.level().await.map(drop)
    }

    /// The compatibility level of subjects that have none of their own: `BACKWARD`, `NONE`, …
    pub async fn level(&self) -> Result<String, RegistryError> {
        self.shared.client.level().await
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.at()).finish()
    }
}

/// A question under way; one that ends without an answer (its runtime stops, it panics) is told of, too.
struct Question {
    shared: Weak<Shared>,
    id: SchemaId,
    answered: bool,
}

impl Question {
    fn answered(&mut self, answer: Result<Arc<Avro>, Heard>) {
        self.answered = true;
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let heard = match answer {
            Ok(schema) => {
                // before the memory is told, or somebody might look in between and ask again
                shared.schemas.write().insert(self.id, schema);
                Heard::Schema
            }
            Err(heard) => heard,
        };
        match &heard {
            Heard::Schema => tracing::debug!(id = %self.id, "a schema is known"),
            Heard::Missing(reason) | Heard::Not(reason) => {
                tracing::debug!(id = %self.id, reason, "a schema is not known");
            }
            Heard::Refused(reason) | Heard::Outage(reason) => {
                tracing::warn!(id = %self.id, "{reason}; asking again");
            }
        }
        self.tell(&shared, heard);
    }

    fn tell(&self, shared: &Shared, heard: Heard) {
        let now: Duration = shared.begun.elapsed();
        shared.memory.lock().heard(self.id, heard, now);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.answered
            && let Some(shared) = self.shared.upgrade()
        {
            let at = shared.client.at();
            let heard = Heard::Refused(format!("a question to the registry at {at} was given up"));
            self.tell(&shared, heard);
        }
    }
}
