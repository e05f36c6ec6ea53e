//! `weir:step/secrets`: a tenant's secrets, by the names that the graph grants. A value is handed to the guest and nowhere else.

use crate::wasm::bindings::secrets;
use crate::wasm::state::State;
use crate::wasm::trap::{Refusal, Unavailable};

impl secrets::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<String> {
        let Some(grants) = &self.grants else {
            return Err(wasmtime::Error::new(Refusal::from("no secret is granted")));
        };
        let shown = crate::wasm::logs::printable(&name, 64);
        if !grants.secrets.contains(&name) {
            return Err(wasmtime::Error::new(Refusal(format!(
                "it asks for the secret \"{shown}\", which its graph does not grant; add it to `secrets` of step \"{}\"",
                grants.step
            ))));
        }
        match grants.outside.secret(&grants.tenant, &name) {
            Ok(Some(value)) => Ok(value.as_ref().to_owned()),
            Ok(None) => Err(wasmtime::Error::new(Refusal(format!(
                "the secret \"{name}\" is not set; set it with  weir secret set {name}  and redrive the dead letter"
            )))),
            Err(trouble) => Err(wasmtime::Error::new(Unavailable(format!(
                "the secret \"{name}\" cannot be read now: {trouble}"
            )))),
        }
    }
}
