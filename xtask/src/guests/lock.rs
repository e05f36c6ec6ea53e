//! `guests.lock.toml`: what each committed component was made from.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The lock's file name, in the folder that it is about.
pub const LOCK_NAME: &str = "guests.lock.toml";

const HEAD: &str =
    "# Written by `cargo xtask guests`: what each component in this folder was made from.\n\n";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Sorted by name.
    #[serde(default, rename = "guest")]
    guests: Vec<Locked>,
}

/// One component.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    pub name: String,
    /// sha256 of all that the component is made from, in hex.
    pub sources: String,
    /// Which compiler and linker made it.
    pub toolchain: String,
    /// sha256 of the component, in hex.
    pub component: String,
}

impl Lock {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}; `cargo xtask guests` writes it",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn get(&self, name: &str) -> Option<&Locked> {
        self.guests.iter().find(|locked| locked.name == name)
    }

    /// Adds or replaces.
    pub fn put(&mut self, locked: Locked) {
        self.guests.retain(|other| other.name != locked.name);
        self.guests.push(locked);
        self.guests.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Forgets all but these.
    pub fn keep(&mut self, names: &[String]) {
        self.guests.retain(|locked| names.contains(&locked.name));
    }
}
