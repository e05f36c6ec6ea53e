//! Deliberately broken variants, chosen by `WEIR_BROKEN`, and failpoints, chosen by `WEIR_FAILPOINT`: what the fault tests must
//! catch, or need to kill where it hurts. Compiled only with the feature `broken`, into a binary of its own.
//!
//! `WEIR_BROKEN=position-outside`: the position moves before the rows; in Postgres in a database transaction of its own.
//! `WEIR_BROKEN=server-times`: rows in CQL are written with the time of the write. `WEIR_BROKEN=by-execution`: with that of the
//! execution's id.
//! `WEIR_CLOCK=-3600`: the sink's clock goes wrong by so many seconds.
//! `WEIR_FAILPOINT=before-commit=N`, `after-commit=N`: the process is killed (-9) right before or after its Nth write of rows is
//! committed; in CQL, right before or after the position is written.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static PASSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn is(name: &str) -> bool {
    std::env::var("WEIR_BROKEN").is_ok_and(|variant| variant == name)
}

/// How wrong the clock goes.
pub(crate) fn clock_us() -> i64 {
    static WRONG: LazyLock<i64> = LazyLock::new(|| {
        let seconds = std::env::var("WEIR_CLOCK").ok();
        let seconds: i64 = seconds.and_then(|set| set.parse().ok()).unwrap_or(0);
        seconds.saturating_mul(1_000_000)
    });
    *WRONG
}

/// Ends the process the Nth time that it comes here.
pub(crate) fn kill_at(name: &str) {
    let set = std::env::var("WEIR_FAILPOINT").unwrap_or_default();
    let Some((found, number)) = set.split_once('=') else {
        return;
    };
    if found != name || number.parse() != Ok(PASSED.fetch_add(1, Ordering::Relaxed) + 1) {
        return;
    }
    let pid = std::process::id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    tracing::error!("failpoint {name}: {killed:?}");
    // nothing more may happen
    loop {
        std::thread::park();
    }
}

/// The write times of a batch's landings.
pub(crate) fn times(batch: &crate::batch::Batch, times: Vec<i64>) -> Vec<i64> {
    let landings = batch.landings.iter().zip(times);
    landings
        .map(|(landing, time)| match &landing.row {
            _ if is("server-times") => crate::clock::now_us(),
            crate::batch::Row::Result(result) if is("by-execution") => {
                result.execution.time_ms() as i64 * 1_000
            }
            _ => time,
        })
        .collect()
}
