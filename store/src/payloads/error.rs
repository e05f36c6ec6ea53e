//! Why a call on the payloads failed, and what its caller is to do about it.

use crate::Disposition;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The disk is used up; nothing was written.
    #[error("no space left for payloads at \"{place}\"; free space, then try again")]
    Full { place: String },
    /// It cannot be reached, read or written just now. Whether the object is there is not known.
    #[error("the payloads at \"{place}\" are not available ({reason}); try again")]
    Unavailable { place: String, reason: String },
    /// It was there, or should have been, and is not.
    #[error(
        "payload sha256:{sha256} is lost: it is not at \"{place}\"; put it back from a copy, or let what refers to it go"
    )]
    Lost { sha256: String, place: String },
    /// What is there is not what was put.
    #[error(
        "payload sha256:{sha256} at \"{place}\" is damaged ({reason}); put it back from a copy, or let what refers to it go"
    )]
    Damaged {
        sha256: String,
        place: String,
        reason: String,
    },
    /// Settings that can never work.
    #[error("{reason}")]
    Invalid { reason: String },
}

impl PayloadError {
    /// What the caller does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unavailable { .. } => Disposition::Retry,
            Self::Full { .. } => Disposition::Full,
            Self::Lost { .. } | Self::Damaged { .. } => Disposition::Reject,
            Self::Invalid { .. } => Disposition::Invalid,
        }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    /// Names what went wrong with a call, but for an object that is not there.
    pub(super) fn of(place: &str, error: &object_store::Error) -> Self {
        let place = place.to_owned();
        if is_full(error) {
            return Self::Full { place };
        }
        Self::Unavailable {
            place,
            reason: words(error),
        }
    }
}

/// On one line.
fn words(error: &object_store::Error) -> String {
    let text = error.to_string();
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.len() > REASON_BYTES_MAX {
        words.truncate(words.floor_char_boundary(REASON_BYTES_MAX));
        words.push('…');
    }
    words
}

const REASON_BYTES_MAX: usize = 400;

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let io = error.downcast_ref::<std::io::Error>();
    if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)) {
        return true;
    }
    error.source().is_some_and(is_full)
}
