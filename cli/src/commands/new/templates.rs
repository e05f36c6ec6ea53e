//! The languages that steps can be written in: what `sdk/templates/templates.toml` says of each, and the files, which are in this binary.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::exit::Failure;

// `TEMPLATES` and `FILES`, by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// One language. What the fields mean stands at the head of `templates.toml`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Template {
    pub(in crate::commands) lang: String,
    #[serde(default)]
    aliases: Vec<String>,
    pub(in crate::commands) title: String,
    files: Vec<String>,
    vendor: Vec<Vendor>,
    #[serde(default)]
    pub(in crate::commands) needs: Vec<Need>,
    pub(in crate::commands) toolchain: Option<Toolchain>,
    #[serde(default)]
    pub(in crate::commands) env: BTreeMap<String, String>,
    pub(in crate::commands) install: Option<Install>,
    pub(in crate::commands) build: Vec<String>,
    pub(in crate::commands) test: Vec<String>,
    pub(in crate::commands) output: String,
    #[serde(default)]
    pub(in crate::commands) initialized: bool,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
struct Vendor {
    from: String,
    to: String,
    files: Vec<String>,
}

/// A tool, and how to find out whether it is there.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Need {
    pub(in crate::commands) tool: String,
    pub(in crate::commands) check: Vec<String>,
    pub(in crate::commands) get: String,
}

/// A compiler that `weir build` looks for itself, because its name or its arguments differ from machine to machine.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::commands) enum Toolchain {
    Rust,
    Clang,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Install {
    pub(in crate::commands) unless: String,
    pub(in crate::commands) run: Vec<Vec<String>>,
}

/// All languages, in the order of the file.
pub(in crate::commands) fn all() -> Vec<Template> {
    #[derive(Deserialize)]
    struct Templates {
        template: Vec<Template>,
    }
    let templates: Templates =
        toml::from_str(TEMPLATES).expect("templates.toml is part of this binary and tested");
    templates.template
}

/// The language of this name.
pub(in crate::commands) fn find(lang: &str) -> Result<Template, Failure> {
    let wanted = lang.to_lowercase();
    let templates = all();
    let known = templates.iter().map(|template| template.lang.as_str());
    let known = known.collect::<Vec<_>>().join(", ");
    templates
        .into_iter()
        .find(|template| template.lang == wanted || template.aliases.contains(&wanted))
        .ok_or_else(|| {
            Failure::usage(format!(
                "there is no template for \"{lang}\"; there are {known}"
            ))
        })
}

impl Template {
    /// The files of a new folder, by their paths in it.
    pub(super) fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let own = self.files.iter().map(|file| {
            let bytes = embedded(&format!("templates/{}/{file}", self.lang));
            let text = std::str::from_utf8(bytes).expect("templates are text; tested");
            (dotted(file), text.replace("{{name}}", name).into_bytes())
        });
        let vendored = self.vendor.iter().flat_map(|vendor| {
            vendor.files.iter().map(|file| {
                let bytes = embedded(&format!("{}/{file}", vendor.from));
                (format!("{}/{file}", vendor.to), bytes.to_vec())
            })
        });
        own.chain(vendored).collect()
    }
}

fn embedded(name: &str) -> &'static [u8] {
    let found = FILES.binary_search_by_key(&name, |(file, _)| file);
    FILES[found.expect("build.rs reads the same list")].1
}

/// `dot-x` is `.x`, of files and of folders.
fn dotted(path: &str) -> String {
    let part = |part: &str| {
        part.strip_prefix("dot-")
            .map_or_else(|| part.to_owned(), |rest| format!(".{rest}"))
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_whole() {
        let templates = all();
        assert!(templates.len() >= 3);
        for template in templates {
            let files = template.files("price");
            assert!(files.contains_key("graph.yaml") && files.contains_key("README.md"));
            assert!(files.contains_key(".gitignore"), "{files:?}");
            for (path, bytes) in files {
                assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
                let left = String::from_utf8(bytes).is_ok_and(|text| text.contains("{{name}}"));
                assert!(!left, "{path}");
            }
            assert!(find(&template.lang).is_ok() && !template.build.is_empty());
            assert!(template.aliases.iter().all(|alias| find(alias).is_ok()));
        }
        let unknown = find("cobol").expect_err("there is none");
        assert!(unknown.message.contains("rust"), "{unknown}");
    }
}
