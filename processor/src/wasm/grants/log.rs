//! `weir:step/log`: structured lines, part of the execution. The call's budget bounds them.

use crate::wasm::bindings::log;
use crate::wasm::call::Level;
use crate::wasm::state::State;

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.logs.lock().line(level, &message);
        Ok(())
    }
}
