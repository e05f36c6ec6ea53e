//! `weir module`: what a module is, sending one to the server, and the names that modules have there.

use std::path::Path;

use serde_json::{Value, json};

use super::local;
use super::validate::rows;
use crate::args::{Global, ModuleCommand};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell};

pub(super) fn module(
    command: ModuleCommand,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<()> {
    match command {
        ModuleCommand::Inspect { module } if Path::new(&module).is_file() => {
            file(Path::new(&module), output)
        }
        ModuleCommand::Inspect { module } if module.ends_with(".wasm") => {
            Err(Failure::new(Exit::NotFound, format!("there is no file {module}")).into())
        }
        ModuleCommand::Inspect { module } => {
            let client = super::client(global)?;
            let digest = digest_of(&client, &module)?;
            let found = client.get(&format!("/api/v1/modules/{digest}"), &[])?;
            output.print(&found, asks)?;
            Ok(())
        }
        ModuleCommand::Push { file, name } => push(&super::client(global)?, &file, name, output),
        ModuleCommand::List { limit } => {
            let list = super::client(global)?.list("/api/v1/modules", &[], limit)?;
            output.print(&list, |value| Rows {
                header: &["DIGEST", "BYTES", "NAMES"],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "digest"),
                        cell(item, "bytes"),
                        words(item, "names"),
                    ]
                }),
            })?;
            Ok(())
        }
    }
}

/// What a file is, without a server.
fn file(path: &Path, output: &mut Output) -> anyhow::Result<()> {
    let (digest, bytes, interface) = local::inspect(path)?;
    let value = json!({
        "file": path.display().to_string(), "digest": digest, "bytes": bytes, "names": [],
        "asks": interface.asks(), "imports": interface.imports, "interface": interface,
    });
    output.print(&value, asks)?;
    Ok(())
}

fn asks(value: &Value) -> Rows {
    Rows {
        header: &["DIGEST", "BYTES", "NAMES", "ASKS FOR", "IMPORTS"],
        rows: vec![vec![
            cell(value, "digest"),
            cell(value, "bytes"),
            words(value, "names"),
            words(value, "asks"),
            words(value, "imports"),
        ]],
    }
}

fn push(
    client: &Client,
    file: &Path,
    name: Option<String>,
    output: &mut Output,
) -> anyhow::Result<()> {
    let named = name
        .map(|name| match name.split_once('@') {
            Some((name, version)) => Ok((name.to_owned(), version.to_owned())),
            None => Err(Failure::usage(format!(
                "\"{name}\" has no version; write {name}@1.0.0"
            ))),
        })
        .transpose()?;
    // proven here, so that what is wrong is said before it is sent
    let (digest, bytes, _) = local::inspect(file)?;
    let bar = output.progress().bar("modules", 1);
    let module = std::fs::read(file)?;
    let path = format!("/api/v1/modules/{digest}");
    client.put(&path, "application/wasm", &module)?;
    let mut pushed = json!({"digest": digest, "bytes": bytes, "names": []});
    if let Some((name, version)) = named {
        let path = format!(
            "/api/v1/module-names/{}/{}",
            segment(&name),
            segment(&version)
        );
        let body = json!({ "digest": digest }).to_string();
        client.put(&path, "application/json", body.as_bytes())?;
        pushed["names"] = json!([format!("{name}@{version}")]);
    }
    bar.finish_and_clear();
    output.print(&pushed, |value| Rows {
        header: &["DIGEST", "BYTES", "NAMES"],
        rows: vec![vec![
            cell(value, "digest"),
            cell(value, "bytes"),
            words(value, "names"),
        ]],
    })?;
    Ok(())
}

fn digest_of(client: &Client, module: &str) -> anyhow::Result<String> {
    if module.starts_with("sha256:") {
        return Ok(module.to_owned());
    }
    let (name, version) = module.split_once('@').unwrap_or((module, "latest"));
    let path = format!(
        "/api/v1/module-names/{}/{}",
        segment(name),
        segment(version)
    );
    Ok(cell(&client.get(&path, &[])?, "digest"))
}

/// A list in one cell.
fn words(value: &Value, field: &str) -> String {
    let words = value[field].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}
