//! What runs in this process: the roles of a line, the HTTP server before them, and what it says about their readiness.
//!
//! `line` builds, checks and stops the roles and is the same for `weir dev` and `weir serve`; `board` keeps what is ready
//! and what is not; `front` is the server, which is there before the roles are and after they have stopped.

mod board;
mod destinations;
mod front;
mod line;
mod processing;
pub(crate) mod signals;
mod world;

use std::collections::BTreeSet;

use store::StoreError;
use topics::{Disposition, LogError};

pub(crate) use board::Board;
pub(crate) use destinations::Destinations;
pub(crate) use front::{Front, Server};
pub(crate) use line::{Line, Parts, now_ms, now_us};
pub(crate) use processing::claim;
pub(crate) use world::{TENANT, environment, key_of};

/// A part of Weir that a process may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Ingest,
    Processor,
    Sink,
    Control,
}

impl Role {
    pub(crate) const ALL: [Role; 4] = [Role::Ingest, Role::Processor, Role::Sink, Role::Control];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
            Self::Sink => "sink",
            Self::Control => "control",
        }
    }
}

/// The roles of one process.
pub(crate) type Roles = BTreeSet<Role>;

/// All of them.
pub(crate) fn all() -> Roles {
    Role::ALL.into()
}

/// What the log or the store could not do just now.
pub(crate) fn passes(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<LogError>()
            .is_some_and(|e| e.disposition() == Disposition::Retry)
            || cause
                .downcast_ref::<StoreError>()
                .is_some_and(|e| e.disposition() == store::Disposition::Retry)
    })
}
