//! Triggers at a steady pace, from a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use topics::Log as _;

use super::cluster::Cluster;
use super::ledger::Ledger;

/// As many at a time, all of them in flight together.
const CHUNK: usize = 200;

pub(crate) struct Load {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    sent: AtomicUsize,
    over: AtomicBool,
    wait: AtomicBool,
    idle: AtomicBool,
}

impl Load {
    /// Sends triggers number 0, 1, … until `count` are sent or `finish` is called.
    pub(crate) fn start(
        cluster: &Cluster,
        ledger: &Ledger,
        count: usize,
        per_second: usize,
    ) -> Self {
        let state = Arc::new(State::default());
        let (mine, ledger) = (state.clone(), ledger.clone());
        let (appender, runtime) = (cluster.log.appender(), cluster.runtime.handle().clone());
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            let mut next = 0;
            while next < count && !mine.over.load(Ordering::Acquire) {
                if mine.wait.load(Ordering::Acquire) {
                    mine.idle.store(true, Ordering::Release);
                    std::thread::park_timeout(Duration::from_millis(10));
                    due = Instant::now();
                    continue;
                }
                mine.idle.store(false, Ordering::Release);
                let end = (next + CHUNK).min(count);
                let chunk = (next..end).map(|number| ledger.trigger(number)).collect();
                runtime
                    .block_on(appender.append(chunk))
                    .expect("whether a trigger was written is known");
                next = end;
                mine.sent.store(next, Ordering::Release);
                due += Duration::from_secs_f64(CHUNK as f64 / per_second as f64);
                if let Some(early) = due.checked_duration_since(Instant::now()) {
                    std::thread::sleep(early);
                }
            }
            mine.idle.store(true, Ordering::Release);
        });
        Self {
            state,
            thread: Some(thread),
        }
    }

    pub(crate) fn sent(&self) -> usize {
        self.state.sent.load(Ordering::Acquire)
    }

    /// Returns when nothing is under way any more: a broker that dies leaves no doubt about what it took.
    pub(crate) fn pause(&self) {
        self.state.wait.store(true, Ordering::Release);
        crate::weir::until("the load pauses", || {
            self.state.idle.load(Ordering::Acquire)
        });
    }

    pub(crate) fn resume(&self) {
        self.state.idle.store(false, Ordering::Release);
        self.state.wait.store(false, Ordering::Release);
    }

    /// Stops it; how many were sent.
    pub(crate) fn finish(mut self) -> usize {
        self.state.over.store(true, Ordering::Release);
        self.state.wait.store(false, Ordering::Release);
        self.join();
        self.sent()
    }

    /// Waits until all are sent; how many.
    pub(crate) fn complete(mut self) -> usize {
        self.join();
        self.sent()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
