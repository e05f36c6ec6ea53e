//! `weir dlq …`

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::validate::rows;
use crate::args::{DlqCommand, LetterFilter, RedriveVersion, RequestArgs, WhichLetters};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell, shorten};

/// How often a progress is asked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server that cannot take a request just now is asked again, and how often.
const ASK: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) fn dlq(
    client: &Client,
    command: DlqCommand,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    match command {
        DlqCommand::List {
            filter,
            purged,
            limit,
        } => {
            let mut query = fields(&filter);
            if purged {
                query.push(("purged", "true".to_owned()));
            }
            let list = client.list("/api/v1/dead-letters", &query, limit.limit)?;
            output.print(&list, listed)?;
        }
        DlqCommand::Show { id } => {
            let letter = client.get(&format!("/api/v1/dead-letters/{}", segment(&id)), &[])?;
            output.print(&letter, table)?;
        }
        DlqCommand::Redrive {
            which,
            all,
            version,
            request,
        } => {
            let mut ask = asked(&which);
            if let Some(version) = version {
                let word = match version {
                    RedriveVersion::Active => "active",
                    RedriveVersion::Original => "original",
                };
                ask.insert("version".to_owned(), word.into());
            }
            if let Some(filter) = ask.get_mut("filter").filter(|_| all) {
                filter["all"] = true.into();
            }
            return carry_out(client, &REDRIVE, ask, &request, output);
        }
        DlqCommand::Purge {
            which,
            yes,
            request,
        } => {
            if !yes {
                return Err(Failure::usage(format!(
                    "this drops the bytes of {} for good; look at them with weir dlq list, then say --yes",
                    told(&which)
                ))
                .into());
            }
            return carry_out(client, &PURGE, asked(&which), &request, output);
        }
    }
    Ok(Exit::Ok)
}

/// What is done to letters, in the words of the API and of a person.
struct Deed {
    path: &'static str,
    /// The field of its id.
    id: &'static str,
    progress: &'static str,
    done: &'static str,
}

const REDRIVE: Deed = Deed {
    path: "/api/v1/dead-letters/redrive",
    id: "redrive",
    progress: "/api/v1/redrives",
    done: "redriven",
};
const PURGE: Deed = Deed {
    path: "/api/v1/dead-letters/purge",
    id: "purge",
    progress: "/api/v1/purges",
    done: "purged",
};

/// Asks, waits until all letters are written, and prints what was done.
fn carry_out(
    client: &Client,
    deed: &Deed,
    mut ask: Map<String, Value>,
    args: &RequestArgs,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let request = match &args.request {
        Some(request) => request.clone(),
        None => uuid::Uuid::now_v7().to_string(),
    };
    ask.insert("request".to_owned(), request.clone().into());
    let body = Value::Object(ask).to_string();
    // It may have been heard all the same.
    let unsure = |mut failure: Failure| {
        let again = format!("to ask again without doing it twice, add --request {request}");
        failure.message = format!("{}\n{again}", failure.message);
        failure
    };
    let deadline = Instant::now() + ASK;
    let mut state = loop {
        let answer = client.try_post(deed.path, "application/json", body.as_bytes());
        match answer.map_err(unsure)? {
            Ok(state) => break state,
            // not just now, such as while another process takes over; the request's id makes it safe
            Err(refused) if refused.status == 503 && Instant::now() < deadline => {
                std::thread::sleep(ASK_AGAIN);
            }
            Err(refused) if refused.status >= 500 => {
                return Err(unsure(refused.into_failure()).into());
            }
            Err(refused) => return Err(refused.into_failure().into()),
        }
    };
    if let Some(id) = state[deed.id].as_str().map(str::to_owned) {
        state = follow(client, deed, &id, state, args.wait, output)?;
    }
    output.print(&state, |state| Rows {
        header: &["ID", "LETTERS", "WRITTEN", "REFUSED"],
        rows: vec![
            [deed.id, "letters", "emitted", "refused_count"]
                .map(|field| cell(state, field))
                .into(),
        ],
    })?;
    Ok(say(deed, &state, output))
}

/// The state when all is written, or when time has run out.
fn follow(
    client: &Client,
    deed: &Deed,
    id: &str,
    mut state: Value,
    patience: Duration,
    output: &Output,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + patience;
    let bar = output
        .progress()
        .bar("letters", state["letters"].as_u64().unwrap_or(0));
    while is_open(&state) && Instant::now() < deadline {
        bar.set_position(state["emitted"].as_u64().unwrap_or(0));
        std::thread::sleep(LOOK);
        state = client.get(&format!("{}/{}", deed.progress, segment(id)), &[])?;
    }
    bar.finish_and_clear();
    Ok(state)
}

fn is_open(state: &Value) -> bool {
    state["emitted"].as_u64() < state["letters"].as_u64()
}

/// Tells what is not as it was asked for; that is an exit code, too.
fn say(deed: &Deed, state: &Value, output: &Output) -> Exit {
    let progress = output.progress();
    for refused in state["refused"].as_array().into_iter().flatten() {
        progress.note(&format!("not {}: {}", deed.done, cell(refused, "message")));
    }
    if state["letters"] == 0 {
        progress.note(
            "no dead letter is like that; those that were redriven before want --all or their ids",
        );
    }
    if state["more"] == true {
        progress.note("there are more than one request takes; do it again for the rest");
    }
    if is_open(state) {
        progress.note(&format!(
            "not all of them are written yet; they will be; look later with --request {}",
            cell(state, "request")
        ));
        return Exit::Failed;
    }
    if state["refused_count"].as_u64() > Some(0) {
        return Exit::Failed;
    }
    Exit::Ok
}

/// A filter's fields that are given.
fn fields(filter: &LetterFilter) -> Vec<(&'static str, String)> {
    let LetterFilter {
        graph,
        kind,
        step,
        since,
    } = filter.clone();
    [
        ("graph", graph),
        ("kind", kind),
        ("step", step),
        ("since", since),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn asked(which: &WhichLetters) -> Map<String, Value> {
    let mut ask = Map::new();
    if which.ids.is_empty() {
        let filter: Map<String, Value> = fields(&which.filter)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        ask.insert("filter".to_owned(), Value::Object(filter));
    } else {
        ask.insert("ids".to_owned(), json!(which.ids));
    }
    ask
}

fn told(which: &WhichLetters) -> String {
    match &which.ids[..] {
        [] => {
            let fields: Vec<String> = fields(&which.filter)
                .into_iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            format!("all dead letters of {}", fields.join(", "))
        }
        [one] => format!("dead letter {one}"),
        ids => format!("{} dead letters", ids.len()),
    }
}

fn listed(list: &Value) -> Rows {
    Rows {
        header: &[
            "ID",
            "GRAPH",
            "STEP",
            "KIND",
            "REASON",
            "EXECUTION",
            "DIED AT",
            "REDRIVEN AT",
        ],
        rows: rows(list, |item| {
            vec![
                cell(item, "id"),
                cell(item, "graph"),
                cell(item, "step"),
                cell(item, "kind"),
                shorten(&cell(item, "reason"), 80),
                cell(item, "execution"),
                cell(item, "died_at"),
                cell(item, "redriven_at"),
            ]
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn which(ids: &[&str], graph: Option<&str>) -> WhichLetters {
        WhichLetters {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            filter: LetterFilter {
                graph: graph.map(str::to_owned),
                ..LetterFilter::default()
            },
        }
    }

    #[test]
    fn what_is_asked_for() {
        assert_eq!(
            Value::Object(asked(&which(&["0-1"], None))),
            json!({"ids": ["0-1"]})
        );
        let of_graph = which(&[], Some("orders"));
        assert_eq!(
            Value::Object(asked(&of_graph)),
            json!({"filter": {"graph": "orders"}})
        );
        assert_eq!(told(&of_graph), "all dead letters of graph orders");
    }

    #[test]
    fn what_is_left_is_an_exit_code() {
        let output = Output::to(crate::args::Format::Json, Box::new(Vec::new()));
        let code = |state: Value| say(&REDRIVE, &state, &output);
        assert_eq!(
            code(json!({"letters": 2, "emitted": 2, "refused_count": 0})),
            Exit::Ok
        );
        assert_eq!(
            code(json!({"letters": 2, "emitted": 1, "refused_count": 0})),
            Exit::Failed
        );
        assert_eq!(
            code(json!({"letters": 2, "emitted": 2, "refused_count": 1})),
            Exit::Failed
        );
        assert_eq!(
            code(json!({"letters": 0, "emitted": 0, "refused_count": 0})),
            Exit::Ok
        );
    }
}
