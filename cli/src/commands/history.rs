//! `weir history …`: what is done to the databases that hold history and dead letters. Asks them itself, as a sink does.

use serde_json::{Value, json};
use sink::Erased;

use super::confirm::confirm;
use crate::args::{Global, HistoryCommand};
use crate::config::{self, Overrides};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell};
use crate::roles::Destinations;

/// What an erasure leaves.
const LEFT: [&str; 4] = [
    "your own tables in the destinations",
    "records on the topics, until their retention has passed",
    "graphs, and triggers and redrives that the store still knows",
    "payloads in a folder or bucket, until weir payloads sweep takes what nothing refers to any more",
];

pub(super) fn history(
    command: &HistoryCommand,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let HistoryCommand::Erase { tenant, yes } = command;
    let overrides = Overrides::of_process(Vec::new());
    let config = config::load(global.config.as_ref(), overrides)?;
    let destinations = Destinations::new(&config.destinations)?;
    let places = destinations.places(&config.sink.path);
    if places.is_empty() {
        return Err(Failure::usage(
            "there is no destination and no history in SQLite here; say with --config where the server's weir.toml is",
        )
        .into());
    }
    let places = places.join(", ");
    let what = format!("all executions, outputs and dead letters of tenant \"{tenant}\"");
    if !yes {
        confirm(
            &format!("deletes {what} in {places}"),
            &format!("Delete {what} in {places}? They do not come back."),
        )?;
    }
    let progress = output.progress();
    let bar = progress.bar("rows", 0);
    let told = |place: &str, erased: Erased| {
        bar.set_message(format!("{place}, {}", erased.table));
        bar.set_length(erased.rows);
        bar.set_position(erased.rows);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(destinations.erase(&config.sink.path, tenant, &told));
    bar.finish_and_clear();

    let (mut erased, mut failed) = (Vec::new(), Vec::new());
    for (place, outcome) in done {
        match outcome {
            Ok(tables) => erased.extend(
                tables
                    .into_iter()
                    .map(|of| json!({"destination": place, "table": of.table, "rows": of.rows})),
            ),
            Err(reason) => failed.push(json!({"destination": place, "reason": reason})),
        }
    }
    let report = json!({"tenant": tenant, "erased": erased, "failed": failed, "left": LEFT});
    output.print(&report, table)?;
    progress.note(&format!("not erased: {}", LEFT.join("; ")));
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    let reasons: Vec<String> = failed
        .iter()
        .map(|one| format!("{}: {}", cell(one, "destination"), cell(one, "reason")))
        .collect();
    Err(Failure::failed(format!(
        "not all is erased; say it again once these answer\n  - {}",
        reasons.join("\n  - ")
    ))
    .into())
}

fn table(report: &Value) -> Rows {
    let erased = report["erased"].as_array().into_iter().flatten();
    let row = |of: &Value| vec![cell(of, "destination"), cell(of, "table"), cell(of, "rows")];
    Rows {
        header: &["DESTINATION", "TABLE", "ROWS"],
        rows: erased.map(row).collect(),
    }
}
