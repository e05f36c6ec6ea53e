//! A step's code, compiled and linked: instances are made from it.

use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{self, LinkedPre};
use super::engine;
use super::error::EngineError;
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
    pub(super) wasi: bool,
    pub(super) log: bool,
}

impl Module {
    /// sha256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// It imports `weir:step/log`: calls without the grant are refused.
    pub fn imports_log(&self) -> bool {
        self.inner.log
    }

    /// It imports something of WASI.
    pub fn imports_wasi(&self) -> bool {
        self.inner.wasi
    }

    pub(super) fn link(
        engine: &engine::Inner,
        id: u64,
        digest: String,
        component: &Component,
    ) -> Result<Self, EngineError> {
        let (mut wasi, mut log) = (false, false);
        for (name, _) in component.component_type().imports(&engine.wasm) {
            wasi |= name.starts_with("wasi:");
            log |= name.starts_with("weir:step/log");
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
                wasi,
                log,
            }),
        })
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.inner.digest)
            .field("wasi", &self.inner.wasi)
            .field("log", &self.inner.log)
            .finish()
    }
}

pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    bindings::types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    // Always linked, so that one linker does; the pool refuses a call without the grant before any of it can run.
    bindings::log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
