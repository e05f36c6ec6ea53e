//! Why a call on a log failed, and what its caller is to do about it.
//!
//! Variants are named by what happened, not by the library that said so; each message names the place and the way out.

use crate::log::Partition;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Another owner of the same lane slot or source shard took over, or a partition was committed by a lane that does
    /// not own it. Nothing of this owner will be visible.
    #[error(
        "\"{owner}\" was fenced: another owner took over; drop everything it held and open it anew"
    )]
    Fenced { owner: String },
    /// The group rebalanced while the call was under way.
    #[error("group \"{group}\" rebalanced during the call; abort and go on with what is assigned")]
    Moved { group: String },
    /// The log cannot be reached or written just now; nothing was committed.
    #[error("the log is not available ({reason}); try again")]
    Unavailable { reason: String },
    /// The disk, or the size that the log may have, is used up; nothing was written.
    #[error(
        "no space left for the log at \"{place}\"; free space or shorten the topics' retention, then try again"
    )]
    Full { place: String },
    #[error(
        "a record of {bytes} bytes is larger than the {bytes_max} that topic \"{topic}\" takes; store the payload and send its reference"
    )]
    TooLarge {
        topic: String,
        bytes: usize,
        bytes_max: usize,
    },
    /// A topic or partition that does not exist: it may have been deleted, and may come back. A cluster whose brokers are
    /// all fenced for a moment says so of topics that are there.
    #[error("{what} does not exist; create it first")]
    Missing { what: String },
    /// The same of a topic.
    #[error("topic \"{topic}\" does not exist; create it first")]
    MissingTopic { topic: String },
    /// Kafka does not let this client do that with a topic.
    #[error("kafka refuses topic \"{topic}\"; grant {right} on it (see `weir topics rights`)")]
    Denied { topic: String, right: &'static str },
    /// The offset asked for has been deleted by retention, or was never written.
    #[error("offset {offset} of {topic}/{number} is not in the log, which holds {start} to {end}; seek to where reading shall go on", topic = .partition.topic, number = .partition.number)]
    OutOfRange {
        partition: Partition,
        offset: i64,
        start: i64,
        end: i64,
    },
    /// A commit may or may not have happened. `abort` settles it; never commit again before that.
    #[error(
        "it is not known whether {what} was committed; abort, and go on from the committed offsets"
    )]
    Uncertain { what: String },
    /// What is stored is not what was written.
    #[error("corrupt log at {place}; restore the file from a copy or delete it")]
    Corrupt { place: String },
    /// A wrong call or setting.
    #[error("{reason}")]
    Invalid { reason: String },
}

/// What the caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Abort if in a transaction, wait a little, do it again.
    Retry,
    /// Drop all memory of this owner and start over with a new one.
    Fenced,
    /// This record can never be written: make it a dead letter in the same transaction.
    Reject,
    /// Nothing that this process can repair: refuse at boot, or stop with an alert.
    Invalid,
}

impl LogError {
    /// What the caller does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Moved { .. }
            | Self::Unavailable { .. }
            | Self::Full { .. }
            | Self::Missing { .. }
            | Self::MissingTopic { .. }
            | Self::Uncertain { .. } => Disposition::Retry,
            Self::Fenced { .. } => Disposition::Fenced,
            Self::TooLarge { .. } => Disposition::Reject,
            Self::OutOfRange { .. }
            | Self::Corrupt { .. }
            | Self::Denied { .. }
            | Self::Invalid { .. } => Disposition::Invalid,
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    pub(crate) fn unavailable(reason: impl ToString) -> Self {
        Self::Unavailable {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn denied(topic: &str, right: &'static str) -> Self {
        Self::Denied {
            topic: topic.to_owned(),
            right,
        }
    }

    pub(crate) fn missing_topic(topic: &str) -> Self {
        Self::MissingTopic {
            topic: topic.to_owned(),
        }
    }

    pub(crate) fn missing_partition(partition: &Partition) -> Self {
        Self::Missing {
            what: format!(
                "partition {} of topic \"{}\"",
                partition.number, partition.topic
            ),
        }
    }
}
