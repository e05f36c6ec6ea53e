//! The time, as an argument.

use std::fmt;
use std::sync::Arc;

/// Tells the time in microseconds since 1970 UTC.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock that asks `now_us`.
    pub fn new(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_us))
    }

    /// Microseconds since 1970 UTC.
    pub fn now_us(&self) -> u64 {
        (self.0)()
    }

    /// Milliseconds since 1970 UTC.
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
