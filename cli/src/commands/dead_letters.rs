//! `weir dlq …`

use serde_json::Value;

use super::validate::rows;
use crate::args::DlqCommand;
use crate::client::{Client, segment};
use crate::output::{Output, Rows, cell, shorten};

pub(super) fn dlq(client: &Client, command: DlqCommand, output: &mut Output) -> anyhow::Result<()> {
    match command {
        DlqCommand::List { graph, kind, limit } => {
            let query: Vec<(&str, String)> = [("graph", graph), ("kind", kind)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let list = client.list("/api/v1/dead-letters", &query, limit.limit)?;
            output.print(&list, |value| Rows {
                header: &[
                    "ID",
                    "GRAPH",
                    "STEP",
                    "KIND",
                    "REASON",
                    "EXECUTION",
                    "DIED AT",
                ],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "id"),
                        cell(item, "graph"),
                        cell(item, "step"),
                        cell(item, "kind"),
                        shorten(&cell(item, "reason"), 80),
                        cell(item, "execution"),
                        cell(item, "died_at"),
                    ]
                }),
            })?;
        }
        DlqCommand::Show { id } => {
            let letter = client.get(&format!("/api/v1/dead-letters/{}", segment(&id)), &[])?;
            output.print(&letter, table)?;
        }
    }
    Ok(())
}

/// Every field on its row; what the original record held at the end.
fn table(letter: &Value) -> Rows {
    let mut rows = Vec::new();
    for (name, value) in letter.as_object().into_iter().flatten() {
        match value {
            Value::Object(fields) if name == "record" => {
                rows.extend(fields.iter().map(|(field, _)| {
                    vec![
                        format!("record.{field}"),
                        shorten(&cell(value, field), 2000),
                    ]
                }));
            }
            Value::Null => {}
            _ => rows.push(vec![name.clone(), shorten(&cell(letter, name), 2000)]),
        }
    }
    Rows {
        header: &["FIELD", "VALUE"],
        rows,
    }
}
