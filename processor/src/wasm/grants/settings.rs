//! `weir:step/settings`: what the graph says under the step's `settings`. No grant: it is the step's own.

use crate::wasm::bindings::settings;
use crate::wasm::state::State;

impl settings::Host for State {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self
            .grants
            .as_ref()
            .map_or_else(|| "{}".to_owned(), |grants| grants.settings.clone()))
    }
}
