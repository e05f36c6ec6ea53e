//! `weir payloads …`

use serde_json::json;

use crate::args::PayloadsCommand;
use crate::client::Client;
use crate::output::{Output, Rows, cell};

pub(super) fn payloads(
    client: &Client,
    command: &PayloadsCommand,
    output: &mut Output,
) -> anyhow::Result<()> {
    let PayloadsCommand::Sweep { dry_run } = command;
    let ask = json!({ "dry_run": dry_run }).to_string();
    let swept = client.post("/api/v1/payloads/sweep", "application/json", ask.as_bytes())?;
    let what = if *dry_run {
        "would be removed"
    } else {
        "removed"
    };
    output.print(&swept, |swept| {
        let row = |what: &str, count: &str, bytes: &str| {
            vec![what.to_owned(), cell(swept, count), cell(swept, bytes)]
        };
        Rows {
            header: &["", "PAYLOADS", "BYTES"],
            rows: vec![
                row(what, "orphans", "orphan_bytes"),
                row("kept", "kept", "kept_bytes"),
            ],
        }
    })?;
    Ok(())
}
