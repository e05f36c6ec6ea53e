//! A worker's instances. With isolation `record` every call gets a new one; with `batch` one is kept for the same tenant, graph version
//! and step, and dropped as soon as a call on it breaks.

use std::sync::Arc;

use schemas::graph::Isolation;

use super::audit::{self, Again};
use super::call::{Broken, Call, Called, Outcome};
use super::engine::{self, Engine};
use super::instance::{Instance, Ran};
use super::kept::{Instances, Kept};
use super::logs::SharedLogs;
use super::module::Module;
use super::outside::Outside;
use super::ticker::Activity;

/// Belongs to one worker thread.
pub struct Pool {
    engine: Arc<engine::Inner>,
    activity: Activity,
    outside: Arc<dyn Outside>,
    kept: Instances,
}

impl Pool {
    /// `kept_max`: instances kept for `batch`, the least recently used given up first. All pools together should keep fewer
    /// than `instances_max`.
    pub fn new(engine: &Engine, kept_max: usize, outside: Arc<dyn Outside>) -> Self {
        Self {
            outside,
            engine: Arc::clone(&engine.inner),
            activity: engine.inner.ticker.activity(),
            kept: Instances::new(kept_max),
        }
    }

    /// Runs the step. Never fails and never panics on what the guest does: everything is in the outcome.
    pub fn call(&mut self, module: &Module, call: &Call<'_>) -> Called {
        // requests of the guest run where the answers come in
        let outside = module.inner.imports.http.then(|| Arc::clone(&self.outside));
        let runtime = outside.as_ref().and_then(|outside| outside.runtime());
        let _entered = runtime.map(tokio::runtime::Handle::enter);
        if module.inner.imports.log && !call.log {
            let message = format!(
                "the step \"{}\" imports weir:step/log, which its graph does not grant (`log: true`)",
                call.step
            );
            return Called {
                outcome: Outcome::Broken(Broken::Protocol, message),
                logs: Vec::new(),
                logs_dropped: 0,
                fresh: false,
                demoted: None,
            };
        }
        match call.isolation {
            Isolation::Record => self.on_fresh(module, call).0,
            Isolation::Batch => self.on_kept(module, call),
        }
    }

    /// Instances kept at the moment.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Gives up all kept instances, for a worker that goes idle or lost its partition.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    fn on_kept(&mut self, module: &Module, call: &Call<'_>) -> Called {
        if let Some(kept) = self.kept.find(module, call) {
            let audited = audit::chosen(call, kept.instance.calls, self.engine.config.audit_one_in);
            let running = self.activity.begin();
            let (ran, asked) = kept.instance.call(&self.engine, call, audited);
            drop(running);
            let called = called(ran.outcome, &kept.instance.state().logs, false);
            let fresh = match audited {
                true => self.audit(module, call, &called, asked),
                false => None,
            };
            if !ran.reusable || fresh.is_some() {
                self.kept.drop_last();
            }
            return fresh.unwrap_or(called);
        }
        let (called, instance) = self.on_fresh(module, call);
        if let Some(instance) = instance {
            self.kept.put(Kept::new(module, call, instance));
        }
        called
    }

    /// Runs a call again on a fresh instance. `None`: the first run stands.
    fn audit(
        &self,
        module: &Module,
        call: &Call<'_>,
        reused: &Called,
        asked: Vec<audit::Asked>,
    ) -> Option<Called> {
        if audit::says_nothing(&reused.outcome) {
            return None;
        }
        let again: Arc<dyn Outside> = Arc::new(Again::new(Arc::clone(&self.outside), asked));
        // room for it must not come from the instances that are kept: their places are counted
        let _running = self.activity.begin();
        let mut instance = Instance::start(&self.engine, module, call, &again).ok()?;
        let (Ran { outcome, .. }, _) = instance.call(&self.engine, call, false);
        if audit::says_nothing(&outcome) {
            return None;
        }
        let mut fresh = called(outcome, &instance.state().logs, true);
        metrics::counter!("weir_steps_audited_total").increment(1);
        fresh.demoted = Some(audit::difference(reused, &fresh)?);
        Some(fresh)
    }

    /// The instance comes back if it may serve another call.
    fn on_fresh(&mut self, module: &Module, call: &Call<'_>) -> (Called, Option<Instance>) {
        let _running = self.activity.begin();
        let mut instance = loop {
            match Instance::start(&self.engine, module, call, &self.outside) {
                Ok(instance) => break instance,
                // Room can be made here: instances that merely wait for another record.
                Err((Broken::HostBusy, ..)) if self.kept.make_room() => {}
                Err((broken, message, state)) => {
                    return (
                        called(Outcome::Broken(broken, message), &state.logs, true),
                        None,
                    );
                }
            }
        };
        let (Ran { outcome, reusable }, _) = instance.call(&self.engine, call, false);
        let called = called(outcome, &instance.state().logs, true);
        (called, reusable.then_some(instance))
    }
}

fn called(outcome: Outcome, logs: &SharedLogs, fresh: bool) -> Called {
    let (logs, logs_dropped) = logs.lock().take();
    Called {
        outcome,
        logs,
        logs_dropped,
        fresh,
        demoted: None,
    }
}
