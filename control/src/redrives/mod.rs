//! Dead letters that are run again (redrive) or let go (purge): `POST /api/v1/dead-letters/redrive` and `…/purge`.
//!
//! A request says which letters; `choose` finds them in the history, `plan` makes of each the record that shall be
//! written, and the store keeps all of them in one transaction under the request's id: the selection is fixed when the
//! request is accepted. `source` writes the records, each exactly once, whatever dies. Purges go the same way, because
//! only the sink writes the history: what is written for them tells the sink to drop a letter's bytes.

mod ask;
mod choose;
mod graphs;
mod plan;
mod record;
mod source;

pub(crate) use ask::{purge, purge_progress, redrive, redrive_progress, since_ms};
pub use source::{KIND, Redrives};
