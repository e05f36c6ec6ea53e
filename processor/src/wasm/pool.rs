//! A worker's instances. With isolation `record` every call gets a new one; with `batch` one is kept for the same tenant, graph version
//! and step, and dropped as soon as a call on it breaks.

use std::sync::Arc;

use schemas::graph::Isolation;

use super::call::{Broken, Call, Called, Outcome};
use super::engine::{self, Engine};
use super::instance::{Instance, Ran};
use super::logs::SharedLogs;
use super::module::Module;
use super::ticker::Activity;

/// Belongs to one worker thread.
pub struct Pool {
    engine: Arc<engine::Inner>,
    activity: Activity,
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
    pub fn new(engine: &Engine, kept_max: usize) -> Self {
        Self {
            engine: Arc::clone(&engine.inner),
            activity: engine.inner.ticker.activity(),
            kept_max,
            kept: Vec::new(),
        }
    }

    /// Runs the step. Never fails and never panics on what the guest does: everything is in the outcome.
    pub fn call(&mut self, module: &Module, call: &Call<'_>) -> Called {
        if module.inner.log && !call.log {
            let message = format!(
                "the step \"{}\" imports weir:step/log, which its graph does not grant (`log: true`)",
                call.step
            );
            return Called {
                outcome: Outcome::Broken(Broken::Protocol, message),
                logs: Vec::new(),
                logs_dropped: 0,
                fresh: false,
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
        // The last one used is the likeliest.
        if let Some(at) = self.kept.iter().rposition(|kept| kept.serves(module, call)) {
            let kept = &mut self.kept[at];
            let running = self.activity.begin();
            let ran = kept.instance.call(&self.engine, call);
            drop(running);
            let called = called(ran.outcome, &kept.instance.state().logs, false);
            if !ran.reusable {
                self.kept.remove(at);
            } else if at + 1 < self.kept.len() {
                self.kept[at..].rotate_left(1);
            }
            return called;
        }
        let (called, instance) = self.on_fresh(module, call);
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

    /// The instance comes back if it may serve another call.
    fn on_fresh(&mut self, module: &Module, call: &Call<'_>) -> (Called, Option<Instance>) {
        let _running = self.activity.begin();
        let mut instance = loop {
            match Instance::start(&self.engine, module, call) {
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
        let Ran { outcome, reusable } = instance.call(&self.engine, call);
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
    }
}
