//! How long a retry waits. Pure and without jitter: the same record waits the same on every run.

use std::time::Duration;

use schemas::graph::{Backoff, Retry};
use topics::catalog::DELAYS;

/// The first wait where the step names none.
const BASE: Duration = Duration::from_millis(100);
/// A retry in place holds up its key: longer waits belong to `order: release`.
const MAX: Duration = Duration::from_secs(5);

/// `attempt`: the try that has just failed, 1 for the first. `asked_ms`: what the step asked for.
pub(crate) fn delay(retry: &Retry, attempt: u32, asked_ms: Option<u64>) -> Duration {
    if let Some(ms) = asked_ms {
        return Duration::from_millis(ms).min(MAX);
    }
    match retry.backoff {
        Backoff::Constant => BASE,
        Backoff::Exponential => BASE.saturating_mul(1 << (attempt - 1).min(10)).min(MAX),
    }
}

/// The topic of delays on which a retry with `order: release` waits: the shortest that is as long as what the step asked for
/// (the longest where none is); else with exponential backoff one rung further each time.
pub(crate) fn topic(retry: &Retry, attempt: u32, asked_ms: Option<u64>) -> &'static str {
    let longest = DELAYS.len() - 1;
    let rung = match (asked_ms, retry.backoff) {
        (Some(asked), _) => DELAYS
            .iter()
            .position(|(_, delay_ms)| delay_ms.cast_unsigned() >= asked)
            .unwrap_or(longest),
        (None, Backoff::Constant) => 0,
        (None, Backoff::Exponential) => (attempt as usize).saturating_sub(1).min(longest),
    };
    DELAYS[rung].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::graph::RetryOrder;

    #[test]
    fn doubles_up_to_its_bound_and_does_what_the_step_asks() {
        let retry = |backoff| Retry {
            on: Vec::new(),
            attempts: 9,
            backoff,
            order: RetryOrder::Keep,
        };
        let exponential = |attempt| delay(&retry(Backoff::Exponential), attempt, None).as_millis();
        assert_eq!(
            [
                exponential(1),
                exponential(2),
                exponential(3),
                exponential(40)
            ],
            [100, 200, 400, 5_000]
        );
        assert_eq!(delay(&retry(Backoff::Constant), 3, None), BASE);
        assert_eq!(
            delay(&retry(Backoff::Constant), 3, Some(7)),
            Duration::from_millis(7)
        );
        assert_eq!(delay(&retry(Backoff::Constant), 3, Some(u64::MAX)), MAX);
    }

    #[test]
    fn a_released_retry_waits_at_least_as_long_as_asked() {
        let retry = |backoff| Retry {
            on: Vec::new(),
            attempts: 9,
            backoff,
            order: RetryOrder::Release,
        };
        let topic = |backoff, attempt, asked| super::topic(&retry(backoff), attempt, asked);
        let rungs = [1, 2, 3, 4, 5].map(|attempt| topic(Backoff::Exponential, attempt, None));
        let names = DELAYS.map(|(name, _)| name);
        assert_eq!(rungs[..4], names);
        assert_eq!(rungs[4], names[3]);
        assert_eq!(topic(Backoff::Constant, 7, None), names[0]);
        assert_eq!(topic(Backoff::Constant, 1, Some(0)), names[0]);
        assert_eq!(topic(Backoff::Constant, 1, Some(5_001)), names[1]);
        assert_eq!(topic(Backoff::Constant, 1, Some(u64::MAX)), names[3]);
    }
}
