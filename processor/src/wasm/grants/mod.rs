//! What a step may use beside its input, one capability a file. All are linked for every module; what the graph does not grant
//! ends the call with a message that names the line to add. (`weir apply` refuses such a graph before.)

mod http;
mod log;
mod secrets;
mod settings;

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{HasSelf, Linker};

pub(super) use self::http::Http;
use super::bindings;
use super::call::Call;
use super::module::Imports;
use super::outside::Outside;
use super::state::State;

/// What the host keeps of a call for its capabilities; only of modules that import one.
pub(super) struct Grants {
    tenant: Arc<str>,
    step: String,
    settings: String,
    secrets: Vec<String>,
    outside: Arc<dyn Outside>,
    pub(super) http: Option<Box<Http>>,
}

impl Grants {
    /// `None`: the module asks for nothing.
    pub(super) fn new(
        imports: &Imports,
        call: &Call<'_>,
        outside: &Arc<dyn Outside>,
    ) -> Option<Box<Self>> {
        if !(imports.settings || imports.secrets || imports.http) {
            return None;
        }
        let tenant: Arc<str> = call.tenant.into();
        Some(Box::new(Self {
            step: call.step.to_owned(),
            settings: call.settings.to_owned(),
            secrets: call.secrets.to_vec(),
            http: imports
                .http
                .then(|| Box::new(Http::new(tenant.clone(), call.http_allow, outside.clone()))),
            outside: outside.clone(),
            tenant,
        }))
    }

    /// Sets what differs between two calls of one instance: the rest is the same tenant's, version's and step's.
    pub(super) fn begin(&mut self, call: &Call<'_>, until: Instant) {
        if let Some(http) = &mut self.http {
            http.begin(call, until);
        }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::log::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    bindings::settings::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    bindings::secrets::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    http::add_to_linker(linker)
}
