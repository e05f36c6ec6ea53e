//! A step's code, compiled and linked: instances are made from it.

use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{self, LinkedPre};
use super::engine;
use super::error::EngineError;
use super::grants;
use super::state::State;
use super::wasi;

/// Cheap to clone; the code is shared and goes with the last clone.
#[derive(Clone)]
pub struct Module {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    digest: String,
    /// Unique in the process.
    pub(super) id: u64,
    pub(super) pre: LinkedPre<State>,
    pub(super) imports: Imports,
}

/// What the component imports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Imports {
    /// Something of WASI.
    pub(super) wasi: bool,
    pub(super) log: bool,
    pub(super) settings: bool,
    pub(super) secrets: bool,
    pub(super) http: bool,
}

impl Module {
    /// sha256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// It imports `weir:step/log`: calls without the grant are refused.
    pub fn imports_log(&self) -> bool {
        self.inner.imports.log
    }

    /// It imports `wasi:http`: its calls may wait for answers.
    pub fn imports_http(&self) -> bool {
        self.inner.imports.http
    }

    /// It imports something of WASI.
    pub fn imports_wasi(&self) -> bool {
        self.inner.imports.wasi
    }

    pub(super) fn link(
        engine: &engine::Inner,
        id: u64,
        digest: String,
        component: &Component,
    ) -> Result<Self, EngineError> {
        let mut imports = Imports::default();
        for (name, _) in component.component_type().imports(&engine.wasm) {
            imports.wasi |= name.starts_with("wasi:");
            imports.log |= name.starts_with("weir:step/log@");
            imports.settings |= name.starts_with("weir:step/settings@");
            imports.secrets |= name.starts_with("weir:step/secrets@");
            imports.http |= name.starts_with("wasi:http/");
        }
        let world = |error: wasmtime::Error| EngineError::World(format!("{error:#}"));
        let pre = engine
            .linker
            .instantiate_pre(component)
            .and_then(LinkedPre::new)
            .map_err(world)?;
        Ok(Self {
            inner: Arc::new(Inner {
                digest,
                id,
                pre,
                imports,
            }),
        })
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.inner.digest)
            .field("imports", &self.inner.imports)
            .finish()
    }
}

pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    bindings::types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    // Always linked, so that one linker does.
    grants::add_to_linker(&mut linker)?;
    Ok(linker)
}
