//! `weir build`: one component out of a folder that `weir new` made, or that has a `weir-step.toml` like it.
//!
//! The language's own tool builds; what it leaves is made a component where it is none yet, and looked at as `weir apply` would. Nothing is
//! installed but what the template says lies in the folder itself.

mod component;
mod initialize;
mod tools;
// One source for both: xtask builds the repository's own steps with it, and neither crate may depend on the other.
#[expect(dead_code, unreachable_pub, reason = "xtask uses all of it")]
#[path = "../../../../xtask/src/guests/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::tools::Tools;
use super::new::templates::{self, Template};
use crate::args::BuildArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell, shorten};

/// What `weir new` leaves for `weir build`.
pub(super) const SETTINGS_FILE: &str = "weir-step.toml";
const COMPONENT: &str = "step.wasm";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    lang: String,
    build: Option<Vec<String>>,
    output: Option<String>,
    initialized: Option<bool>,
}

pub(super) fn build(args: &BuildArgs, output: &mut Output) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = &args.dir;
    let template = template(dir)?;
    let tools = Tools::find(&template, dir)?;
    let spinner = output.progress().spinner();
    tools.install(&spinner)?;
    spinner.set_message(format!("building {}", template.title));
    let left = tools.build(&spinner)?;
    spinner.set_message("making the component");
    let module =
        std::fs::read(&left).with_context(|| format!("the build left no {}", left.display()))?;
    let component = component::of(module, template.initialized)?;
    spinner.finish_and_clear();
    let interface = schemas::module::inspect(&component)
        .map_err(|problem| Failure::failed(format!("{}: {problem}", left.display())))?;
    let file = dir.join(COMPONENT);
    std::fs::write(&file, &component)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let value = json!({
        "file": file.display().to_string(),
        "lang": template.lang,
        "toolchain": tools.toolchain(),
        "bytes": component.len(),
        "digest": format!("sha256:{}", hex::encode(Sha256::digest(&component))),
        "interface": interface,
        "seconds": (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    });
    output.print(&value, table)?;
    Ok(())
}

fn table(value: &Value) -> Rows {
    let imports = value["interface"]["imports"].as_array();
    let imports: Vec<&str> = imports
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let imports = match imports.len() {
        0 => "none".to_owned(),
        _ => imports.join(", "),
    };
    Rows {
        header: &["FILE", "BYTES", "DIGEST", "SECONDS", "IMPORTS"],
        rows: vec![vec![
            cell(value, "file"),
            cell(value, "bytes"),
            shorten(&cell(value, "digest"), 20),
            cell(value, "seconds"),
            imports,
        ]],
    }
}

/// The folder's language, with what its settings change.
fn template(dir: &Path) -> anyhow::Result<Template> {
    let file = dir.join(SETTINGS_FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!(
                "{} is no step: it has no {SETTINGS_FILE}; `weir new` makes one, or write one that says `lang = \"…\"`",
                dir.display()
            );
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let settings: Settings = toml::from_str(&text)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    let mut template = templates::find(&settings.lang)?;
    if let Some(build) = settings.build {
        if build.is_empty() {
            return Err(Failure::failed(format!("{}: `build` is empty", file.display())).into());
        }
        // a command of the user's own finds its tools itself
        template.toolchain = None;
        template.needs.clear();
        template.build = build;
    }
    template.output = settings.output.unwrap_or(template.output);
    template.initialized = settings.initialized.unwrap_or(template.initialized);
    Ok(template)
}

/// Below the folder, whatever the folder's settings say: a build writes there.
fn below(dir: &Path, path: &str) -> PathBuf {
    dir.join(path.trim_start_matches('/'))
}
