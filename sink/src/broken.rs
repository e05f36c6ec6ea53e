//! Deliberately broken variants, chosen by `WEIR_BROKEN`, and failpoints, chosen by `WEIR_FAILPOINT`: what the fault tests must
//! catch, or need to kill where it hurts. Compiled only with the feature `broken`, into a binary of its own.
//!
//! `WEIR_BROKEN=position-outside`: the position moves in a database transaction of its own, before the rows.
//! `WEIR_FAILPOINT=before-commit=N`, `after-commit=N`: the process is killed (-9) right before or after its Nth write of rows is
//! committed; in CQL, right before or after the position is written.

use std::sync::atomic::{AtomicU64, Ordering};

static PASSED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn is(name: &str) -> bool {
    std::env::var("WEIR_BROKEN").is_ok_and(|variant| variant == name)
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
