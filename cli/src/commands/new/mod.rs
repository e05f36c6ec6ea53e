//! `weir new`: a folder with a step that builds, tests and runs. Nothing is overwritten.

pub(super) mod templates;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::build::SETTINGS_FILE;
use crate::args::{Format, NewArgs};
use crate::exit::Failure;
use crate::output::Output;

const NAME_CHARS_MAX: usize = 64;

pub(super) fn new(args: &NewArgs, output: &mut Output) -> anyhow::Result<()> {
    let name = checked(&args.name)?;
    let template = templates::find(&args.lang)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    must_be_free(&dir)?;
    let mut files = template.files(name);
    files.insert(SETTINGS_FILE.to_owned(), settings(&template.lang).into());
    for (path, bytes) in &files {
        write(&dir.join(path), bytes)?;
    }
    let next = [
        format!("cd {}", dir.display()),
        "weir build".to_owned(),
        "weir run graph.yaml --input input.jsonl".to_owned(),
        template.test.join(" "),
    ];
    if output.format() == Format::Table {
        let [cd, build, run, test] = next;
        let title = template.title;
        return Ok(output.text(&format!(
            "{} is a step in {title}. Next:\n\n  {cd}\n  {build}\n  {run}\n\nand its tests:\n\n  {test}\n",
            dir.display()
        ))?);
    }
    let paths: Vec<&String> = files.keys().collect();
    output.document(&json!({"name": name, "lang": template.lang, "dir": dir.display().to_string(), "files": paths, "next": next}))?;
    Ok(())
}

/// A name that crates, modules and packages of every language can have.
fn checked(name: &str) -> Result<&str, Failure> {
    let mut chars = name.chars();
    let sound = chars.next().is_some_and(|first| first.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && name.len() <= NAME_CHARS_MAX;
    if sound {
        return Ok(name);
    }
    Err(Failure::usage(format!(
        "\"{name}\" cannot be a step's name: it begins with a letter a-z and has letters a-z, digits and \"-\" after it, \
         at most {NAME_CHARS_MAX}; another folder is given with --dir"
    )))
}

fn must_be_free(dir: &Path) -> anyhow::Result<()> {
    let taken = match dir.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => dir.symlink_metadata().is_ok(),
    };
    if taken {
        let message = format!(
            "{} is there already and not empty; give another place with --dir",
            dir.display()
        );
        return Err(Failure::failed(message).into());
    }
    Ok(())
}

fn settings(lang: &str) -> String {
    format!(
        "# How `weir build` makes step.wasm.\nlang = \"{lang}\"\n\n\
         # Another command, and where it leaves the module:\n# build = [\"make\", \"wasm\"]\n# output = \"build/step.wasm\"\n"
    )
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["price", "a", "price-2"] {
            assert!(checked(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "Price",
            "2",
            "a_b",
            "a/b",
            "-a",
            "a-",
            "é",
            &"a".repeat(65),
        ] {
            assert!(checked(name).is_err(), "{name}");
        }
    }
}
