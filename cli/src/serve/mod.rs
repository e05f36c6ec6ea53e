//! `weir serve`: roles on Kafka and a shared store. Any number of such processes make one Weir.
//!
//! The HTTP server is there first and goes last, so that `/readyz` can say what the process waits for and `/healthz`
//! that it is alive. What is not there yet (brokers, topics, the store) is waited for; what can never work is refused.

mod plan;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::args::{Global, ServeArgs};
use crate::exit::Failure;
use crate::logging;
use crate::roles::{Front, Line, Server, signals::Signals};
use plan::Plan;
pub(crate) use plan::place;
pub(crate) use start::open;

/// How often the roles are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Runs until SIGTERM or Ctrl-C, then finishes what is under way.
pub(crate) fn serve(args: ServeArgs, global: Global) -> anyhow::Result<()> {
    logging::start("info", args.log_format);
    let plan = Plan::new(&args, &global)?;
    crate::dev::guard(plan.config.listen, plan.api_key.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    let front = Front::new();
    let mut signals = {
        let _entered = runtime.enter();
        Signals::new().context("cannot wait for signals")?
    };
    let server = Server::start(front.clone(), plan.config.listen, &runtime)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        roles = plan.roles_named(),
        brokers = plan.kafka.brokers,
        store = plan.store_named(),
        listen = server.url(),
        "weir serve starts"
    );

    let stop = Arc::new(AtomicBool::new(false));
    let stop_timeout = plan.config.stop_timeout;
    let (tell, mut told) = oneshot::channel();
    let starter = {
        let (front, stop, handle) = (front.clone(), stop.clone(), runtime.handle().clone());
        std::thread::Builder::new()
            .name("start".into())
            .spawn(move || {
                if tell
                    .send(start::start(&plan, &front, &stop, &handle))
                    .is_err()
                {
                    tracing::debug!("nobody waits for the start any more");
                }
            })
            .context("cannot start a thread")?
    };
    let line: Option<Line> = runtime.block_on(async {
        let started = tokio::select! {
            started = &mut told => started,
            () = signals.next() => {
                stop.store(true, Ordering::Release);
                front.board.stopping();
                bound(stop_timeout, signals);
                return told.await.unwrap_or(Ok(None));
            }
        };
        let line = started.map_err(|_| Failure::failed("the start ended unexpectedly"))??;
        let mut every = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = signals.next() => break,
                _ = every.tick() => {
                    if let Some(line) = &line {
                        line.look(&front.board);
                    }
                }
            }
        }
        front.board.stopping();
        bound(stop_timeout, signals);
        Ok(line)
    })?;
    tracing::info!("weir serve stops: finishing what is under way");
    stop.store(true, Ordering::Release);
    front.close();
    let stopped = line.map_or(Ok(()), Line::stop);
    if starter.join().is_err() {
        tracing::error!("the thread that starts the roles panicked");
    }
    runtime.block_on(server.stop());
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = stopped {
        // What was not finished is run again by whoever takes over: no reason to call the stop a failure.
        tracing::warn!("{error:#}");
    }
    tracing::info!("weir serve has stopped");
    Ok(())
}

/// Ends the process when the stop takes too long (exit code 0: it is as good as a crash, which loses nothing), and at
/// once at a second signal (1).
fn bound(timeout: Duration, mut signals: Signals) {
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(timeout) => {
                tracing::warn!("the stop took longer than stop_timeout ({timeout:?}); what was not finished is run again by whoever takes over");
                std::process::exit(0);
            }
            () = signals.next() => {
                tracing::warn!("told to stop a second time: ending at once");
                std::process::exit(1);
            }
        }
    });
}
