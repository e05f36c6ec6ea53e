//! Removes, once an hour, the payloads that nothing refers to any more. Every process with the role does: what is gone
//! already is no matter.

use std::time::Duration;

use metrics::{counter, gauge};
use store::{Payloads, Sweep};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A process that is started again and again comes to it, too.
const FIRST: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(3_600);

/// The running sweeper. Dropping it ends it, wherever it is.
pub struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// Starts it as a task of `runtime`.
    pub fn start(payloads: Payloads, runtime: &Handle) -> Self {
        Self(runtime.spawn(run(payloads)))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(payloads: Payloads) {
    let mut wait = FIRST;
    loop {
        tokio::time::sleep(wait).await;
        wait = EVERY;
        match payloads.sweep(Sweep::Remove).await {
            Ok(swept) => {
                gauge!("weir_payloads").set(swept.kept as f64);
                gauge!("weir_payloads_bytes").set(swept.kept_bytes as f64);
                counter!("weir_payloads_swept_total").increment(swept.orphans);
                if swept.orphans > 0 {
                    tracing::info!(
                        "{} payloads of {} bytes are removed from {}: nothing refers to them any more",
                        swept.orphans,
                        swept.orphan_bytes,
                        payloads.place()
                    );
                }
            }
            Err(error) => tracing::warn!("payloads could not be swept: {error}"),
        }
    }
}
