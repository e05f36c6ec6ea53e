//! The thread that makes time pass for running calls (wasmtime's epochs), and only for them: with no call for a second it
//! parks, so an idle process uses no CPU.
//!
//! Each pool has a counter that is odd while a call runs. Parking follows Dekker: the ticker says "parked" and then looks
//! at the counters again, a call bumps its counter and then looks at "parked"; both sequentially consistent, so one of the two sees
//! the other and no call runs without a tick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Ticks made up at once after the ticker itself was held up; the rest is given to the guest.
const CATCH_UP_MAX: u32 = 4;
/// Ticks without a call before the thread parks.
const IDLE_TICKS: u32 = 200;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
    tick: Duration,
}

struct Shared {
    parked: AtomicBool,
    stop: AtomicBool,
    pools: Mutex<Vec<Weak<AtomicU64>>>,
}

/// A pool's line to the ticker.
pub(super) struct Activity {
    shared: Arc<Shared>,
    ticker: Thread,
    calls: Arc<AtomicU64>,
}

/// Time passes while this lives.
pub(super) struct Running<'a>(&'a AtomicU64);

impl Ticker {
    pub(super) fn start(
        tick: Duration,
        on_tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            pools: Mutex::new(Vec::new()),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("wasm-ticker".into())
                .stack_size(128 << 10)
                .spawn(move || run(&shared, tick, &on_tick))?
        };
        let handle = thread.thread().clone();
        Ok(Self {
            shared,
            thread: Some(thread),
            handle,
            tick,
        })
    }

    pub(super) fn activity(&self) -> Activity {
        let calls = Arc::new(AtomicU64::new(0));
        let mut pools = self.shared.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&calls));
        Activity {
            shared: Arc::clone(&self.shared),
            ticker: self.handle.clone(),
            calls,
        }
    }

    /// Ticks after which at least `time` has passed.
    pub(super) fn ticks(&self, time: Duration) -> u64 {
        // In 64 bits: this is asked for every call, and dividing 128 bits takes longer than the rest of it.
        let time_us = microseconds(time);
        if time_us == u64::MAX {
            return u64::MAX >> 1;
        }
        // One more: the first tick may come right after the call began.
        time_us.div_ceil(microseconds(self.tick).max(1)) + 1
    }
}

/// Rounded up; the largest number for more than there can be.
fn microseconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(time.subsec_nanos().div_ceil(1_000)))
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handle.unpark();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the wasm ticker panicked");
        }
    }
}

impl Activity {
    pub(super) fn begin(&self) -> Running<'_> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.ticker.unpark();
        }
        Running(&self.calls)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Only this pool's thread writes the counter.
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

fn run(shared: &Shared, tick: Duration, on_tick: &dyn Fn()) {
    let (mut last, mut seen, mut idle_ticks) = (Instant::now(), None, 0);
    while !shared.stop.load(Ordering::SeqCst) {
        thread::park_timeout(tick.saturating_sub(last.elapsed()));
        // By the clock, not by wake-ups: an unpark that crosses a time-out must not shorten a call's time.
        let due =
            u32::try_from(last.elapsed().as_nanos() / tick.as_nanos().max(1)).unwrap_or(u32::MAX);
        if due == 0 {
            continue;
        }
        last = if due > CATCH_UP_MAX {
            Instant::now()
        } else {
            last + tick * due
        };
        for _ in 0..due.min(CATCH_UP_MAX) {
            on_tick();
        }
        let now = shared.calls();
        idle_ticks = if now.is_some() && now == seen {
            idle_ticks + 1
        } else {
            0
        };
        seen = now;
        if idle_ticks >= IDLE_TICKS {
            shared.parked.store(true, Ordering::SeqCst);
            while shared.calls() == seen && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            (last, idle_ticks) = (Instant::now(), 0);
        }
    }
}

impl Shared {
    /// How many calls there were; `None` while one runs. A pool that goes changes the sum: one more second awake.
    fn calls(&self) -> Option<u64> {
        let mut sum = 0u64;
        for pool in self.pools.lock().iter().filter_map(Weak::upgrade) {
            let calls = pool.load(Ordering::SeqCst);
            if calls % 2 == 1 {
                return None;
            }
            sum = sum.wrapping_add(calls);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_parks_when_idle_and_wakes_for_a_call() {
        let ticks = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&ticks);
        let ticker = Ticker::start(Duration::from_micros(200), move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
        let activity = ticker.activity();
        for _ in 0..3 {
            while !ticker.shared.parked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let running = activity.begin();
            let from = ticks.load(Ordering::SeqCst);
            // More than it takes to park: it must not while the call runs.
            while ticks.load(Ordering::SeqCst) < from + u64::from(2 * IDLE_TICKS) {
                thread::yield_now();
            }
            assert!(!ticker.shared.parked.load(Ordering::SeqCst));
            drop(running);
        }
        drop(ticker);
        assert_eq!(Arc::strong_count(&ticks), 1, "the thread is gone");
    }

    #[test]
    fn a_deadline_is_never_early() {
        let ticker = Ticker::start(Duration::from_millis(5), || {}).unwrap();
        for (ms, ticks) in [(0, 1), (1, 2), (5, 2), (6, 3), (1_000, 201)] {
            assert_eq!(ticker.ticks(Duration::from_millis(ms)), ticks, "{ms} ms");
        }
        assert_eq!(ticker.ticks(Duration::MAX), u64::MAX >> 1);
    }
}
