//! The one place where a sink asks what time it is. Nothing that decides which of two rows stands may hang on it, but for the
//! base of write times in CQL, which is asked once and kept (`scylla/times.rs`).

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    #[cfg(feature = "broken")]
    let now = now.saturating_add(crate::broken::clock_us());
    now
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    now_us() / 1_000
}
