//! A component out of what a language's tool left: nothing to do where it is one already.
//!
//! A core module of Rust says in a section of its own what its types are (`wit-bindgen` leaves it there); those of Go and C say nothing,
//! so the world is put in here. WASI 0.1, where a module asks for it, is answered by `preview1.wat`.

use anyhow::{Context as _, bail};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::initialize::initialized;

const PREVIEW1: &str = "wasi_snapshot_preview1";
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
    let has_types = section_names(&module).any(|name| name.starts_with("component-type"));
    if !has_types {
        embed(
            &mut module,
            &[("step.wit", schemas::module::STEP_WIT), ("sdk.wit", WORLD)],
            "weir:sdk/sdk",
        )?;
    }
    let mut adapter = wat::parse_str(include_str!("preview1.wat"))?;
    embed(
        &mut adapter,
        &[("preview1.wit", include_str!("preview1.wit"))],
        "weir:preview1/adapter",
    )?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.adapter(PREVIEW1, &adapter))
        .and_then(|mut encoder| encoder.encode())
        .context("the module is no step: it does not export or import what it should")
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

fn section_names(module: &[u8]) -> impl Iterator<Item = String> {
    let payloads = wasmparser::Parser::new(0).parse_all(module);
    payloads.filter_map(|payload| match payload {
        Ok(wasmparser::Payload::CustomSection(section)) => Some(section.name().to_owned()),
        _ => None,
    })
}
