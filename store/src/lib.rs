//! What is at rest: modules, graph versions and activations, and the inbox of triggers that carry an idempotency key.
//!
//! Invariants: a module and a version never change once stored; each change of a graph has its own epoch, taken from one
//! counter row in the change's own transaction; the inbox's number order is its commit order. What was acknowledged is
//! on disk. This crate does not look into graphs, modules or records: it keeps their bytes.
//!
//! One SQLite file (or memory, for tests). SQL is kept to what Postgres understands too; where it cannot be, the
//! statement says so.

mod database;
mod error;
mod graphs;
mod inbox;
mod modules;
mod schema;

pub use database::{Options, Store};
pub use error::{Disposition, StoreError};
pub use graphs::{Activation, Change, ChangeKind, Hook, NewVersion};
pub use inbox::{BATCH_RECORDS_MAX, Entry, Inbox, Key, Put, Row};
pub use modules::ModuleSummary;

/// The result of a call on the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
