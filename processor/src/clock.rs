//! Time as the lane sees it: the only place where it is read and waited for, so that a simulation can supply its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock. `now` never goes back; `unix_ms` may.
pub trait Clock: Send {
    fn now(&self) -> Instant;
    /// Milliseconds since 1970 UTC, for the timestamps of what is written.
    fn unix_ms(&self) -> i64;
    fn sleep(&self, wait: Duration);
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    }

    fn sleep(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}
