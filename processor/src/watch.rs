//! What a lane's owner thread leaves behind for others to see while it may itself be held up: readiness and alarms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};

/// A lane that does not come round, or a transaction that stays open, for so long is an alarm.
const ALARM: Duration = Duration::from_secs(5);
const NONE: u64 = u64::MAX;

/// One lane's.
pub(crate) struct Watch {
    slot: String,
    start: Instant,
    /// Milliseconds since `start` at which the owner last came round.
    turned: AtomicU64,
    /// … at which it opened the transaction that is open; `NONE`: none is.
    opened: AtomicU64,
    joined: AtomicBool,
    alarmed: AtomicBool,
}

impl Watch {
    pub(crate) fn new(slot: &str) -> Arc<Self> {
        Arc::new(Self {
            slot: slot.to_owned(),
            start: Instant::now(),
            turned: AtomicU64::new(0),
            opened: AtomicU64::new(NONE),
            joined: AtomicBool::new(false),
            alarmed: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    pub(crate) fn turned(&self) {
        self.turned.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.opened.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.opened.store(NONE, Ordering::Relaxed);
    }

    pub(crate) fn join(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    pub(crate) fn joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Sets the gauges, and raises an alarm once for each time that something is held up. Called about once a second.
    pub(crate) fn look(&self) {
        let now = self.now();
        let turn = now.saturating_sub(self.turned.load(Ordering::Relaxed));
        let opened = self.opened.load(Ordering::Relaxed);
        let open = if opened == NONE {
            0
        } else {
            now.saturating_sub(opened)
        };
        gauge!("weir_lane_turn_age_seconds", "lane" => self.slot.clone()).set(turn as f64 / 1e3);
        gauge!("weir_lane_transaction_age_seconds", "lane" => self.slot.clone())
            .set(open as f64 / 1e3);
        let held = Duration::from_millis(turn.max(open)) > ALARM;
        if held && !self.alarmed.swap(true, Ordering::Relaxed) {
            let what = if open > 0 {
                "transaction-open"
            } else {
                "lane-stuck"
            };
            counter!("weir_alarms_total", "alarm" => what).increment(1);
            tracing::error!(
                alarm = what,
                "lane {} has not come round for {turn} ms, its transaction is open for {open} ms",
                self.slot
            );
        } else if !held {
            self.alarmed.store(false, Ordering::Relaxed);
        }
    }
}
