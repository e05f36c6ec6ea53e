//! What can go wrong in the processor itself. A failing step is not among it: that is a record.

use store::{PayloadError, StoreError};
use topics::LogError;

use crate::wasm::EngineError;

/// Our own trouble: nothing of the batch is committed, and it runs again.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the store did not answer: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Where payloads are kept does not answer, or takes no more.
    #[error(transparent)]
    Payloads(#[from] PayloadError),
    /// A record refers to a payload, and this process does not know where they are.
    #[error(
        "a record refers to payload sha256:{sha256}, and this process has no place for payloads; set [payloads] url as where it was written"
    )]
    NoPayloads { sha256: String },
    /// A started partition has no committed offset: reading on would run records again or leave some out.
    #[error("{}/{} was read before, and its committed offset is gone; set the offset of group {group} where reading shall go on, then start again", .partition.topic, .partition.number)]
    OffsetMissing {
        group: String,
        partition: topics::Partition,
    },
    /// What this group has committed is about another topic of that name.
    #[error("topic \"{}\" was deleted and made anew since group {group} read it: its records may have been passed over; set the group's offsets where reading shall go on ({}/{} among them), then start again; where graphs read it, applying one of them anew does", .partition.topic, .partition.topic, .partition.number)]
    Replaced {
        group: String,
        partition: topics::Partition,
    },
    /// The store holds a version that this program cannot prove.
    #[error(
        "graph version {version} in the store cannot be read ({reason}); was it written by a newer weir?"
    )]
    Version { version: String, reason: String },
    #[error("module {digest} is not in the store; push it again with `weir apply`")]
    Module { digest: String },
    #[error("schema {id} is not known any more: {reason}")]
    Schema { id: String, reason: String },
    #[error(
        "no instance is free for step \"{step}\"; raise the engine's instances or lower the lanes' workers"
    )]
    Busy { step: String },
    /// Not trouble: the record speaks HTTP, and its worker may not wait for answers. Never leaves the workers.
    #[error("the record waits for answers")]
    Waits,
    #[error("a worker thread of lane {lane} ended unexpectedly")]
    Worker { lane: usize },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl ProcessorError {
    /// Whether it is a lane of this process that is broken: nothing that running its records again would mend.
    pub(crate) fn ends_the_lane(&self) -> bool {
        matches!(
            self,
            Self::Worker { .. }
                | Self::Thread(_)
                | Self::OffsetMissing { .. }
                | Self::Replaced { .. }
        )
    }
}
