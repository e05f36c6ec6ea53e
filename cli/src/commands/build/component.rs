//! A component out of what a language's tool left: nothing to do where it is one already.
//!
//! A core module of Rust says in a section of its own what its types are (`wit-bindgen` leaves it there); those of Go and C say nothing,
//! so the world is put in here. WASI 0.1, where a module asks for it, is answered by `preview1/`.

use anyhow::{Context as _, bail};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::initialize::initialized;

const NO_STEP: &str = "the module is no step: it does not export or import what it should";
const PREVIEW1: &str = "wasi_snapshot_preview1";
const COMMON: &str = include_str!("preview1/common.wat");
const ASKED: &str = include_str!("preview1/asked.wat");
const HELD: &str = include_str!("preview1/held.wat");
const ADAPTER: &str = include_str!("preview1/adapter.wit");
/// A module that imports it says itself what time it is.
const CLOCK_SET: &str = "weir_clock_set";
/// All that a step may use; what it does not use is not imported.
const WORLD: &str = "
package weir:sdk;

world sdk {
  include weir:step/step@1.0.0;
  import weir:step/log@1.0.0;
  import weir:step/settings@1.0.0;
  import weir:step/secrets@1.0.0;
}
";

/// `initialize`: run the module's `_initialize` now and keep the memory that it leaves, so that no instance has to.
pub(super) fn of(module: Vec<u8>, initialize: bool) -> anyhow::Result<Vec<u8>> {
    match module.get(..8) {
        Some(b"\0asm\x01\0\0\0") => {}
        // whatever else it is, `inspect` has the words for it
        _ => return Ok(module),
    }
    let mut module = if initialize {
        initialized(&module).context("cannot run the module's initialisation")?
    } else {
        module
    };
    if !has_types(&module) {
        let wit = [("step.wit", schemas::module::STEP_WIT), ("sdk.wit", WORLD)];
        embed(&mut module, &wit, "weir:sdk/sdk")?;
    }
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .context(NO_STEP)?;
    if imports(&module).any(|(from, _)| from == PREVIEW1) {
        encoder = encoder
            .adapter(PREVIEW1, &adapter(&module)?)
            .context(NO_STEP)?;
    }
    encoder.encode().context(NO_STEP)
}

fn adapter(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let sets_clock = imports(module).any(|import| import == (PREVIEW1, CLOCK_SET));
    let clock = if sets_clock { HELD } else { ASKED };
    let mut adapter = wat::parse_str(format!("(module {COMMON} {clock})"))?;
    embed(
        &mut adapter,
        &[("adapter.wit", ADAPTER)],
        "weir:preview1/adapter",
    )?;
    Ok(adapter)
}

fn embed(module: &mut Vec<u8>, wit: &[(&str, &str)], world: &str) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let mut last = None;
    for (name, text) in wit {
        last = Some(resolve.push_source(name, text)?);
    }
    let Some(package) = last else {
        bail!("no WIT");
    };
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

fn has_types(module: &[u8]) -> bool {
    sections(module).any(|section| matches!(section, Payload::CustomSection(custom) if custom.name().starts_with("component-type")))
}

/// Where from, and what.
fn imports(module: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let lists = sections(module).filter_map(|section| match section {
        Payload::ImportSection(imports) => Some(imports),
        _ => None,
    });
    let imports = lists.flat_map(|imports| imports.into_imports()).flatten();
    imports.map(|import| (import.module, import.name))
}

/// As far as they can be read.
fn sections(module: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    Parser::new(0).parse_all(module).map_while(Result::ok)
}
