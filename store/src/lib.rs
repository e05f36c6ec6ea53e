//! What is at rest: modules, graph versions and activations, and the inbox of triggers that carry an idempotency key.
//!
//! Invariants: a module and a version never change once stored; each change of a graph has its own epoch, taken from one
//! counter row in the change's own transaction; the inbox's number order is its commit order. What was acknowledged is
//! on disk. This crate does not look into graphs, modules or records: it keeps their bytes. (But for the webhook paths and
//! topics of a version that a graph goes back to.)
//!
//! A Postgres database, which any number of processes share, or one SQLite file (or memory, for tests). SQL is the same
//! for both where it can be; where it cannot, the two texts stand side by side. Payloads that are too large for a record
//! lie elsewhere, in a folder or a bucket (`payloads`).

mod database;
mod demotions;
mod error;
mod graphs;
mod inbox;
mod modules;
mod payloads;
mod redrives;
mod schema;
mod secrets;
mod slots;
mod store;
mod write_times;

pub use demotions::Demotion;
pub use error::{Disposition, StoreError};
pub use graphs::{
    Activation, Change, ChangeKind, GraphState, Hook, Listed, NewSubscription, NewVersion,
    PauseReason, Releasing, Rollback, SinkSchema, Subscriber, TopicStart, TopicSubscribed,
};
pub use inbox::{BATCH_RECORDS_MAX, Entry, Inbox, Key, Put, Row, SWEEP_KEYS_MAX};
pub use modules::{ModuleName, ModuleSummary};
pub use payloads::{
    PAYLOAD_RETENTION, PayloadError, PayloadSettings, Payloads, Reference, Sweep, Swept,
};
pub use redrives::{
    Letter, LetterRow, NewRedrive, Redrive, RedriveAccepted, RedriveKind, Repaired,
};
pub use secrets::{SECRET_BYTES_MAX, SecretSummary, SecretsKey, Vault};
pub use slots::{Claimed, Slots};
pub use store::{Options, Store};

/// The result of a call on the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
