//! `weir secret`: names are shown, values never. A value is read from standard input or a file, so that it stands in no history of a shell.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use serde_json::json;

use super::validate::rows;
use crate::args::SecretCommand;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output::{Output, Rows, cell};

pub(super) fn secret(
    client: &Client,
    command: SecretCommand,
    output: &mut Output,
) -> anyhow::Result<()> {
    match command {
        SecretCommand::Set { name, file } => {
            let mut value = String::new();
            match file {
                Some(file) => {
                    value = std::fs::read_to_string(&file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                }
                None => {
                    if std::io::stdin().is_terminal() {
                        output.progress().note("the value, then Ctrl-D:");
                    }
                    std::io::stdin()
                        .read_to_string(&mut value)
                        .context("cannot read standard input")?;
                }
            }
            // an editor's or echo's line end is not meant
            let value = value.strip_suffix('\n').unwrap_or(&value);
            let value = value.strip_suffix('\r').unwrap_or(value);
            if value.is_empty() {
                return Err(Failure::usage("the value is empty; send it on standard input").into());
            }
            let path = format!("/api/v1/secrets/{}", segment(&name));
            client.put(&path, "text/plain", value.as_bytes())?;
            output.progress().note(&format!(
                "secret {name} is set; steps see it within a few seconds"
            ));
            output.print(&json!({ "name": name }), |value| Rows {
                header: &["NAME"],
                rows: vec![vec![cell(value, "name")]],
            })?;
        }
        SecretCommand::List { limit } => {
            let list = client.list("/api/v1/secrets", &[], limit)?;
            output.print(&list, |value| Rows {
                header: &["NAME", "SET AT"],
                rows: rows(value, |item| vec![cell(item, "name"), cell(item, "set_at")]),
            })?;
        }
        SecretCommand::Remove { name } => {
            client.delete(&format!("/api/v1/secrets/{}", segment(&name)))?;
            output.progress().note(&format!("secret {name} is removed"));
            output.print(&json!({ "name": name }), |value| Rows {
                header: &["NAME"],
                rows: vec![vec![cell(value, "name")]],
            })?;
        }
    }
    Ok(())
}
