//! What the sink makes of a log that is full, against the barest way to write the same rows to the same server.
//!
//! `rows` are the rows, `line` the log with their results and a pass of the sink over it; `postgres` and `cql` give the rows of the
//! table.

pub(crate) mod cql;
mod line;
pub(crate) mod postgres;
mod rows;

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::meter::process_cpu;

/// Clients run on it, and what the sink asks of the store.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

/// What one pass came to.
#[derive(Clone, Copy)]
struct Passed {
    per_s: f64,
    /// Of this process, of which client and sink are part and the server is not.
    cpu_us: f64,
    /// Rows of a write, on average; 0: nobody counted.
    batch: f64,
}

impl Passed {
    fn words(self) -> String {
        format!("{:.0}/s, {:.1} µs", self.per_s, self.cpu_us)
    }
}

/// From now on.
struct Watch {
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu: process_cpu(),
        }
    }

    fn passed(&self, rows: u64) -> Passed {
        let (time, cpu) = (self.begun.elapsed(), process_cpu() - self.cpu);
        Passed {
            per_s: rows as f64 / time.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / rows as f64,
            batch: 0.0,
        }
    }
}
