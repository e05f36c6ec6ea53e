//! The inbox of triggers that carry an idempotency key: durable puts that many callers wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use schemas::ExecutionId;
use store::{Entry, Inbox, Key, Put, Store};
use tokio::task::JoinSet;

use crate::log::{runtime, sum};
use crate::meter::{load, process_cpu};
use crate::place;
use crate::report::Row;

const CALLERS: u64 = 64;
const TIME: Duration = Duration::from_secs(4);
/// As often as ingest frees what it has emitted.
const EMITTED_EVERY: u64 = 4_000;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let folder = place::scratch()?;
    runtime()?.block_on(async {
        let store = Store::open(&folder.path().join("store.db")).await?;
        let (started, cpu) = (Instant::now(), process_cpu());
        let record = Bytes::from(vec![b'x'; 1 << 10]);
        let all = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(call(
                store.inbox().clone(),
                caller,
                record.clone(),
                all.clone(),
                started,
            ));
        }
        let put = sum(callers).await?;
        let (elapsed, cpu) = (started.elapsed(), process_cpu() - cpu);
        store.close().await;
        let note = format!(
            "{:.1} µs of CPU each, callers included; {CALLERS} callers, 1 KiB records, freed every {EMITTED_EVERY}; {}",
            cpu.as_secs_f64() * 1e6 / put as f64,
            load()
        );
        let rate = put as f64 / elapsed.as_secs_f64();
        Ok(vec![Row::new("inbox.puts_per_s", rate, "1/s").note(note)])
    })
}

async fn call(
    inbox: Inbox,
    caller: u64,
    record: Bytes,
    all: Arc<AtomicU64>,
    started: Instant,
) -> Result<u64> {
    let mut count = 0_u64;
    while started.elapsed() < TIME {
        let n = count * CALLERS + caller;
        let outcome = inbox.put(entry(n, record.clone())).await?;
        ensure!(outcome == Put::New, "a new key was taken for {outcome:?}");
        count += 1;
        let put = all.fetch_add(1, Ordering::Relaxed) + 1;
        if put.is_multiple_of(EMITTED_EVERY) {
            // numbers are given in commit order, so this many are in
            inbox.emitted(0, put as i64).await?;
        }
    }
    Ok(count)
}

fn entry(n: u64, record: Bytes) -> Entry {
    let id = format!("{n:08x}-0000-4000-8000-000000000000");
    let execution = ExecutionId::derive(1_700_000_000_000 + n, "default", "bench", "hook", &id);
    Entry {
        key: Key::new("default", "bench", "hook", &id),
        body_sha256: [7; 32],
        execution,
        at_ms: 1_700_000_000_000,
        record_key: Some(Bytes::copy_from_slice(&execution.0)),
        record,
    }
}
