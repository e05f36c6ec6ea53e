//! A worker's instances. With isolation `record` every call gets a new one; with `batch` one is kept for the same tenant, graph version
//! and step, and dropped as soon as a call on it breaks.

use std::sync::Arc;

use schemas::graph::Isolation;

use super::audit::{self, Again};
use super::call::{Broken, Call, Called, Outcome};
use super::engine::{self, Engine};
use super::instance::{Instance, Ran};
use super::logs::SharedLogs;
use super::module::Module;
use super::outside::Outside;
use super::ticker::Activity;

/// Belongs to one worker thread.
pub struct Pool {
    engine: Arc<engine::Inner>,
    activity: Activity,
    outside: Arc<dyn Outside>,
    kept_max: usize,
    /// Few, so a list: most recently used last.
    kept: Vec<Kept>,
}

struct Kept {
    module: u64,
    tenant: Box<str>,
    graph: Box<str>,
    version: Box<str>,
    step: Box<str>,
    instance: Instance,
}

impl Kept {
    fn serves(&self, module: &Module, call: &Call<'_>) -> bool {
        self.module == module.inner.id
            && *self.step == *call.step
            && *self.version == *call.version
            && *self.graph == *call.graph
            && *self.tenant == *call.tenant
    }
}

impl Pool {
    /// `kept_max`: instances kept for `batch`, the least recently used given up first. All pools together should keep fewer
    /// than `instances_max`.
    pub fn new(engine: &Engine, kept_max: usize, outside: Arc<dyn Outside>) -> Self {
        Self {
            outside,
            engine: Arc::clone(&engine.inner),
            activity: engine.inner.ticker.activity(),
            kept_max,
            kept: Vec::new(),
        }
    }

    /// Runs the step. Never fails and never panics on what the guest does: everything is in the outcome.
    pub fn call(&mut self, module: &Module, call: &Call<'_>) -> Called {
        // requests of the guest run where the answers come in
        let outside = Arc::clone(&self.outside);
        let _entered = module
            .inner
            .imports
            .http
            .then(|| outside.runtime().map(tokio::runtime::Handle::enter));
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
            Isolation::Record => self.on_fresh(module, call, &outside).0,
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
        // The last one used is the likeliest.
        if let Some(at) = self.kept.iter().rposition(|kept| kept.serves(module, call)) {
            let kept = &mut self.kept[at];
            let audited = audit::chosen(call, kept.instance.calls, self.engine.config.audit_one_in);
            let running = self.activity.begin();
            let (ran, asked) = kept.instance.call(&self.engine, call, audited);
            drop(running);
            let called = called(ran.outcome, &kept.instance.state().logs, false);
            if audited && let Some(fresh) = self.audit(module, call, &called, asked) {
                self.kept.remove(at);
                return fresh;
            }
            if !ran.reusable {
                self.kept.remove(at);
            } else if at + 1 < self.kept.len() {
                self.kept[at..].rotate_left(1);
            }
            return called;
        }
        let outside = Arc::clone(&self.outside);
        let (called, instance) = self.on_fresh(module, call, &outside);
        if let Some(instance) = instance
            && self.kept_max > 0
        {
            if self.kept.len() >= self.kept_max {
                self.kept.remove(0);
            }
            self.kept.push(Kept {
                module: module.inner.id,
                tenant: call.tenant.into(),
                graph: call.graph.into(),
                version: call.version.into(),
                step: call.step.into(),
                instance,
            });
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
    fn on_fresh(
        &mut self,
        module: &Module,
        call: &Call<'_>,
        outside: &Arc<dyn Outside>,
    ) -> (Called, Option<Instance>) {
        let _running = self.activity.begin();
        let mut instance = loop {
            match Instance::start(&self.engine, module, call, outside) {
                Ok(instance) => break instance,
                // Room can be made here: instances that merely wait for another record.
                Err((Broken::HostBusy, ..)) if !self.kept.is_empty() => {
                    self.kept.remove(0);
                }
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
