//! Short ways to say how a call fails on purpose.

use std::fmt::Display;
use std::time::Duration;

use crate::Failure;

impl Failure {
    /// This input can never work: it becomes a dead letter.
    pub fn rejected(reason: impl Display) -> Self {
        Self::Reject(reason.to_string())
    }

    /// Try again when the graph's `retry` says so.
    pub fn again(reason: impl Display) -> Self {
        Self::Retry((None, reason.to_string()))
    }

    /// Try again after `delay`.
    pub fn again_after(delay: Duration, reason: impl Display) -> Self {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self::Retry((Some(ms), reason.to_string()))
    }
}
