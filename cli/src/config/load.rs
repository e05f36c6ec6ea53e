//! Where settings come from: the file, the environment (`WEIR_SECTION__KEY`), flags; the later wins. Each is read by
//! itself first, so that an error names the place where the wrong thing stands.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use super::nearest::nearest;
use crate::exit::Failure;

/// Read where no file is named and this one is there.
const FILE: &str = "weir.toml";
/// Keys outside of any section that the environment may set: other `WEIR_…` variables are not settings of the file.
const TOP: [&str; 3] = ["LISTEN", "DATA", "STOP_TIMEOUT"];

/// What wins over the file.
#[derive(Default)]
pub(crate) struct Overrides {
    /// The process's environment, or a part of it.
    pub(crate) environment: Vec<(String, String)>,
    /// From flags: the key with its section, such as `kafka.brokers`.
    pub(crate) flags: Vec<(&'static str, Value)>,
}

impl Overrides {
    /// The environment of this process, and these flags.
    pub(crate) fn of_process(flags: Vec<(&'static str, Value)>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { environment, flags }
    }
}

/// The settings, checked. Errors are the user's (exit code 2) and name the place.
pub(crate) fn load(file: Option<&PathBuf>, overrides: Overrides) -> anyhow::Result<Config> {
    // A missing file is an error only where it was asked for.
    let path = file
        .cloned()
        .or_else(|| Some(PathBuf::from(FILE)).filter(|path| path.is_file()));
    let mut settings = match &path {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    for (name, value) in overrides.environment {
        if let Some(keys) = keys(&name) {
            put(&mut settings, &keys, variable(&name, &keys, value)?);
        }
    }
    for (key, value) in overrides.flags {
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        put(&mut settings, &keys, value);
    }
    let config =
        Config::deserialize(Value::Table(settings)).map_err(|e| Failure::usage(e.message()))?;
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("cannot read {name}: {e}")))?;
    if let Err(error) = toml::from_str::<Config>(&text) {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].lines().count().max(1))
            .unwrap_or(1);
        // where the key stands at the start of its line, the text before it ends with the line before
        let line = line
            + usize::from(
                error
                    .span()
                    .is_some_and(|span| text[..span.start].ends_with('\n')),
            );
        return Err(
            Failure::usage(format!("{name}:{line}: {}", explained(error.message()))).into(),
        );
    }
    toml::from_str(&text).map_err(|e| Failure::usage(format!("{name}: {e}")).into())
}

/// `unknown field …, expected one of …` with the nearest of them before the list.
fn explained(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown field") => {
            let hint = nearest(wrong, known.iter().copied())
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            format!(
                "there is no key \"{wrong}\"{hint} (there are {})",
                known.join(", ")
            )
        }
        _ => message.replace('\n', " "),
    }
}

/// The keys that a variable stands for; `None`: it is no setting of the file.
fn keys(variable: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix("WEIR_")?;
    if TOP.contains(&rest) {
        return Some(vec![rest.to_lowercase()]);
    }
    let (section, key) = rest.split_once("__")?;
    let mut keys = vec![section.to_lowercase()];
    match key.split_once("__") {
        // a name of librdkafka: dots, which no variable can have
        Some((map, name)) if section == "KAFKA" && map == "PROPERTIES" => {
            keys.extend([map.to_lowercase(), name.to_lowercase().replace('_', ".")]);
        }
        // a destination's name: hyphens, which no variable can have, and no underscore
        Some((name, key)) if section == "DESTINATIONS" => {
            keys.extend([name.to_lowercase().replace('_', "-"), key.to_lowercase()]);
        }
        _ => keys.extend(key.split("__").map(str::to_lowercase)),
    }
    Some(keys)
}

/// Text where the setting takes text, else a number or a truth value.
fn variable(name: &str, keys: &[String], value: String) -> anyhow::Result<Value> {
    let as_text = Value::String(value.clone());
    let typed = value
        .parse::<i64>()
        .map(Value::Integer)
        .ok()
        .or(value.parse::<bool>().map(Value::Boolean).ok());
    let mut wrong = String::new();
    for candidate in std::iter::once(as_text).chain(typed) {
        let mut alone = Table::new();
        put(&mut alone, keys, candidate.clone());
        match Config::deserialize(Value::Table(alone)) {
            Ok(_) => return Ok(candidate),
            Err(error) => wrong = error.message().to_owned(),
        }
    }
    // the value is not repeated: it may be a secret
    let wrong = explained(&wrong).replace(&format!("\"{value}\""), "the value");
    Err(Failure::usage(format!("environment variable {name}: {wrong}")).into())
}

fn put(into: &mut Table, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [key] => {
            into.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let place = into
                .entry(section.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = place {
                put(table, rest, value);
            }
        }
    }
}
