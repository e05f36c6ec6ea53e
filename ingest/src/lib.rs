//! From a trigger to a topic: webhooks, REST calls, and the inbox that emits what carries an idempotency key.
//!
//! Invariants: a request is answered 202 only when it is durable; a trigger with an id goes through the inbox, where a
//! second delivery finds the first one's execution; no answer holds a secret or a part of a body; what a request may
//! use up (bytes, headers, time) is bounded. This crate runs no step and reads no result.

mod accept;
mod clock;
mod config;
mod headers;
mod inbox;
mod manual;
mod problem;
mod router;
mod secrets;
mod targets;
mod verify;
mod webhook;

pub use clock::Clock;
pub use config::IngestConfig;
pub use inbox::{InboxSource, KIND};
pub use problem::Problem;
pub use router::{Components, Ingest, api, hooks, router};
pub use secrets::{Finding, Secret, Secrets};
