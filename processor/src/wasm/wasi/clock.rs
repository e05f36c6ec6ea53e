//! Virtual time. The wall clock stands still at the record's time. The monotonic clock starts there and moves by 1 µs with
//! every look at it, so that a loop that waits for it ends; waiting moves it to the earliest deadline and returns at once. A guest that sleeps for an hour
//! goes on immediately and finds that an hour has passed.
//!
//! While an HTTP request is under way, virtual time stands still and waiting is real: timers go off when the answer has come, so
//! that the same answers give the same run.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::Wasi;
use crate::wasm::trap::{Refusal, Waited};

const READ_NS: u64 = 1_000;

/// Atomics only because pollables hold it too: one thread uses it.
#[derive(Default)]
pub(super) struct Clock {
    time_us: AtomicU64,
    now_ns: AtomicU64,
    /// The earliest deadline that something waits for.
    next_ns: AtomicU64,
    /// HTTP requests under way.
    in_flight: Arc<AtomicU32>,
    /// When the call's time is up, for real waiting.
    until: Mutex<Option<Instant>>,
}

impl Clock {
    pub(super) fn waiting_for(in_flight: Arc<AtomicU32>) -> Self {
        Self {
            in_flight,
            until: Mutex::new(Some(Instant::now())),
            ..Self::default()
        }
    }

    pub(super) fn reset(&self, time_us: u64, time: Duration) {
        if let Some(until) = &mut *self.until.lock() {
            *until = Instant::now() + time;
        }
        self.time_us.store(time_us, Relaxed);
        self.now_ns.store(time_us.saturating_mul(1_000), Relaxed);
    }

    /// Runs what would wait, in virtual time. With no request under way it cannot block: when nothing has a deadline,
    /// nothing will ever happen.
    pub(super) fn settle<T>(&self, future: impl Future<Output = T>) -> wasmtime::Result<T> {
        let mut future = pin!(future);
        loop {
            self.next_ns.store(u64::MAX, Relaxed);
            // asked before the poll: what ends after it wakes the waker
            let waits = self.in_flight.load(Ordering::SeqCst) > 0;
            let waker = if waits {
                Waker::from(Arc::new(Unpark(std::thread::current())))
            } else {
                Waker::noop().clone()
            };
            let mut context = Context::from_waker(&waker);
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return Ok(done);
            }
            if waits {
                self.park()?;
                continue;
            }
            let next = self.next_ns.load(Relaxed);
            if next == u64::MAX {
                return Err(wasmtime::Error::new(Refusal::from(
                    "it waits for something that can never happen here",
                )));
            }
            self.now_ns.fetch_max(next, Relaxed);
        }
    }

    /// Until the waker is woken (or for no reason); an error when the call's time is up.
    fn park(&self) -> wasmtime::Result<()> {
        let left = self
            .until
            .lock()
            .unwrap_or_else(Instant::now)
            .saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(wasmtime::Error::new(Waited));
        }
        std::thread::park_timeout(left);
        Ok(())
    }

    fn deadline(self: &Arc<Self>, at_ns: u64) -> Deadline {
        Deadline {
            clock: Arc::clone(self),
            at_ns,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Deadline {
    clock: Arc<Clock>,
    at_ns: u64,
}

impl Pollable for Deadline {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::poll_fn(|_| {
            if self.at_ns <= self.clock.now_ns.load(Relaxed) {
                return Poll::Ready(());
            }
            self.clock.next_ns.fetch_min(self.at_ns, Relaxed);
            Poll::Pending
        }))
    }
}

impl wall_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let us = self.clock.time_us.load(Relaxed);
        let nanoseconds = u32::try_from(us % 1_000_000 * 1_000).expect("less than a second");
        Ok(wall_clock::Datetime {
            seconds: us / 1_000_000,
            nanoseconds,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 1_000,
        })
    }
}

impl monotonic_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<u64> {
        let now = self.clock.now_ns.load(Relaxed).saturating_add(READ_NS);
        self.clock.now_ns.store(now, Relaxed);
        Ok(now)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(READ_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.table.push(self.clock.deadline(when))?;
        subscribe(&mut self.table, deadline)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        // u64::MAX is reserved for "nothing waits".
        let when = self
            .clock
            .now_ns
            .load(Relaxed)
            .saturating_add(duration)
            .min(u64::MAX - 1);
        self.subscribe_instant(when)
    }
}

impl poll::Host for Wasi {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.clock
            .settle(waiting::Host::poll(&mut self.table, pollables))?
    }
}

impl poll::HostPollable for Wasi {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.clock
            .settle(waiting::HostPollable::ready(&mut self.table, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.clock
            .settle(waiting::HostPollable::block(&mut self.table, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting::HostPollable::drop(&mut self.table, pollable)
    }
}
