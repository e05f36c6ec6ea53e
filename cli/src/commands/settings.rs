//! The part of `weir.toml` that a client needs: `[client] url, api_key`. Other sections belong to the roles.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::args::Global;
use crate::exit::{Exit, Failure};

const FILE: &str = "weir.toml";
const URL: &str = "http://127.0.0.1:8080";

#[derive(Deserialize, Default)]
struct Settings {
    #[serde(default)]
    client: Client,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Client {
    url: Option<String>,
    api_key: Option<String>,
}

/// Address and key: flag or environment (clap has merged them), then the file, then the default.
pub(super) fn server(global: &Global) -> anyhow::Result<(String, Option<String>)> {
    // A missing file is an error only where it was asked for.
    let file = match &global.config {
        Some(path) => read(path)?,
        None if Path::new(FILE).is_file() => read(Path::new(FILE))?,
        None => Settings::default(),
    };
    Ok(merge(global, file))
}

fn merge(global: &Global, file: Settings) -> (String, Option<String>) {
    let set = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let url = set(&global.url)
        .or(file.client.url)
        .unwrap_or_else(|| URL.to_owned());
    (url, set(&global.api_key).or(file.client.api_key))
}

fn read(path: &Path) -> anyhow::Result<Settings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings = toml::from_str(&text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_over_file_over_default() {
        let file = || {
            toml::from_str::<Settings>(
                "[client]\nurl = \"http://a:1\"\napi_key = \"k\"\n[log]\nkind = \"embedded\"",
            )
            .expect("settings")
        };
        let mut global = Global::default();
        assert_eq!(merge(&global, Settings::default()), (URL.to_owned(), None));
        assert_eq!(
            merge(&global, file()),
            ("http://a:1".to_owned(), Some("k".to_owned()))
        );
        global.url = Some("http://b:2".to_owned());
        global.api_key = Some(String::new());
        assert_eq!(
            merge(&global, file()),
            ("http://b:2".to_owned(), Some("k".to_owned())),
            "an empty variable is not set"
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        let error = toml::from_str::<Settings>("[client]\nurk = 1")
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains("urk"), "{error}");
    }
}
