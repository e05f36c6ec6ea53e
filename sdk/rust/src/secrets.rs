//! Secrets of the tenant. A step that asks for one imports `weir:step/secrets`, so its graph must say
//! `secrets: [NAME]`; a step that never asks does not import it.

/// The secret's value. A name that the graph does not grant, or that nobody has set, ends the call with a message that
/// names the way out; the value itself is never logged by Weir.
pub fn get(name: &str) -> String {
    #[cfg(target_family = "wasm")]
    return crate::bindings::weir::step::secrets::get(name);
    // In unit tests they come from the environment, as with `weir dev`.
    #[cfg(not(target_family = "wasm"))]
    std::env::var(name).unwrap_or_else(|_| panic!("set {name} in the environment of the test"))
}
