//! What the host keeps for one store: the guest's limits and its view of the world.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::call::Call;
use super::grants::Grants;
use super::logs::SharedLogs;
use super::outside::Outside;
use super::wasi::Wasi;
use super::{bindings, module};

/// Tables of one instance, all elements together: a table is the host's memory.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, memories and tables in one store.
const INSTANCES_MAX: usize = 64;

pub(super) struct State {
    pub(super) memory: Memory,
    pub(super) logs: SharedLogs,
    /// `None` where the component imports nothing of WASI: most Rust steps.
    pub(super) wasi: Option<Box<Wasi>>,
    /// `None` where it imports nothing that a graph grants but `log`.
    pub(super) grants: Option<Box<Grants>>,
}

/// Linear memory of all the store's instances together.
pub(super) struct Memory {
    pub(super) limit: u64,
    pub(super) used: u64,
    /// The last request that was allowed, to take it back should the growth itself fail.
    asked: u64,
    table_elements: usize,
    /// A request was refused since the call began: what follows is most likely the guest's abort.
    pub(super) refused: bool,
}

impl State {
    pub(super) fn new(module: &module::Inner, call: &Call<'_>, outside: &Arc<dyn Outside>) -> Self {
        let logs = SharedLogs::default();
        let imports = &module.imports;
        let mut wasi = imports.wasi.then(|| Box::new(Wasi::new(Arc::clone(&logs))));
        let mut grants = Grants::new(imports, call, outside);
        if let (Some(wasi), Some(http)) = (
            &mut wasi,
            grants.as_mut().and_then(|grants| grants.http.as_mut()),
        ) {
            wasi.wait_for(http.in_flight(Arc::clone(&logs)));
        }
        Self {
            memory: Memory {
                limit: 0,
                used: 0,
                asked: 0,
                table_elements: 0,
                refused: false,
            },
            logs,
            wasi,
            grants,
        }
    }

    /// Sets everything that differs between two calls of one instance.
    pub(super) fn begin(&mut self, call: &Call<'_>, memory_limit: u64) {
        self.memory.limit = memory_limit;
        self.memory.refused = false;
        self.logs.lock().begin(call.limits.log_lines);
        if let Some(wasi) = &mut self.wasi {
            wasi.begin(call);
        }
        if let Some(grants) = &mut self.grants {
            grants.begin(call, std::time::Instant::now() + call.limits.time);
        }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.used.saturating_add(more) > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used += more;
        self.asked = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.asked);
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if self.table_elements.saturating_add(more) > TABLE_ELEMENTS_MAX
            || maximum.is_some_and(|maximum| desired > maximum)
        {
            self.refused = true;
            return Ok(false);
        }
        self.table_elements += more;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        INSTANCES_MAX
    }
}

impl bindings::types::Host for State {}
