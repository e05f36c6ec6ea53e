//! A circuit breaker for each tenant and host: an upstream that fails again and again is left alone for a while, so that neither it nor the
//! lane drowns in calls that wait for nothing. Pure: times come from the caller.

use std::time::{Duration, Instant};

/// Failures in a row after which it opens.
const FAILURES_MAX: u32 = 10;
const OPEN_FIRST: Duration = Duration::from_secs(2);
const OPEN_MAX: Duration = Duration::from_secs(60);

/// One host of one tenant. Healthy ones need none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    open_for: Duration,
}

impl Breaker {
    /// Whether a request may be sent. When the time is over one may, and the others wait for how it ends.
    pub(super) fn lets_pass(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now + self.open_for);
                true
            }
        }
    }

    /// A request failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return;
        }
        let longer = self.open_for * 2;
        self.open_for = longer.clamp(OPEN_FIRST, OPEN_MAX);
        self.open_until = Some(now + self.open_for);
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_try() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert!(breaker.lets_pass(start));
            breaker.failed(start);
        }
        assert!(!breaker.lets_pass(start) && breaker.is_open(start));
        let later = start + OPEN_FIRST;
        assert!(breaker.lets_pass(later));
        assert!(!breaker.lets_pass(later), "one at a time");
        breaker.failed(later);
        assert!(!breaker.lets_pass(later + OPEN_FIRST), "longer each time");
        assert!(breaker.lets_pass(later + OPEN_FIRST * 2));
    }
}
