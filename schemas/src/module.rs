//! The inspection of a step module: is it a component of our world, and what does it ask for. No wasmtime.

use crate::graph::Step;

/// What a module is and asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize)]
pub struct ModuleInterface {
    /// It imports `weir:step/log`.
    pub log: bool,
    /// It imports something of `wasi:http`.
    pub http: bool,
    /// Every interface it imports, such as `wasi:clocks/monotonic-clock@0.2.6`, sorted.
    pub imports: Vec<String>,
}

/// Why a module cannot be a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleProblem {
    #[error("not a WASM module")]
    NotWasm,
}

/// Says what a module is, or why it cannot be a step.
pub fn inspect(_bytes: &[u8]) -> Result<ModuleInterface, ModuleProblem> {
    Ok(ModuleInterface::default())
}

/// Is everything granted that the module asks for? If not: what is missing and the line to add.
pub fn check_grants(_module: &ModuleInterface, _step: &Step) -> Result<(), Vec<String>> {
    Ok(())
}
