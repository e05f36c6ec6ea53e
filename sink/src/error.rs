//! What can go wrong while landing results.

use topics::LogError;

/// Why a batch did not land. Nothing of it is in the destination.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Log(#[from] LogError),
    /// The destination is down, busy or full: it is tried again until it takes the batch.
    #[error("destination \"{destination}\" does not take rows ({reason}); trying again")]
    Unavailable { destination: String, reason: String },
    /// Another sink has moved the position of a partition: go on from where it stands.
    #[error(
        "another sink writes to destination \"{destination}\" for {topic}/{partition}; going on from its position"
    )]
    Fenced {
        destination: String,
        topic: String,
        partition: u32,
    },
    #[error("destination \"{destination}\" cannot be opened: {reason}")]
    Open { destination: String, reason: String },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A fault of ours.
    #[error("the thread that writes to the destination has panicked; its panic is above")]
    Panicked,
}

/// What the sink's loop does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Keep the batch, wait, write it again.
    Retry,
    /// Drop what is held and seek to the stored positions.
    Fenced,
    /// Nothing that this process can repair: stop with an alert.
    Invalid,
}

impl SinkError {
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unavailable { .. } => Disposition::Retry,
            Self::Fenced { .. } => Disposition::Fenced,
            Self::Log(e) => match e.disposition() {
                topics::Disposition::Retry => Disposition::Retry,
                topics::Disposition::Fenced => Disposition::Fenced,
                topics::Disposition::Reject | topics::Disposition::Invalid => Disposition::Invalid,
            },
            Self::Open { .. } | Self::Thread(_) | Self::Panicked => Disposition::Invalid,
        }
    }
}
