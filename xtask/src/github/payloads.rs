//! Real payloads: GitHub's examples as an npm package, where npm is there; else a few that are in the repository.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

const PACKAGE: &str = "@octokit/webhooks-examples";
const VERSION: &str = "7.6.1";

/// One webhook that GitHub would send.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The kind, as in `X-GitHub-Event`.
    pub event: String,
    /// As in `X-GitHub-Delivery`: a UUID, the same on every run.
    pub delivery: String,
    pub body: Vec<u8>,
}

/// Where they are from, in words, and all payloads there are.
pub fn load(root: &Path) -> Result<(String, Vec<Payload>)> {
    match from_npm(root) {
        Ok(payloads) => Ok((format!("{PACKAGE} {VERSION}"), payloads)),
        Err(why) => {
            let payloads = written_by_hand(root)?;
            Ok((
                format!("examples/github-activity/payloads ({why:#})"),
                payloads,
            ))
        }
    }
}

fn from_npm(root: &Path) -> Result<Vec<Payload>> {
    #[derive(Deserialize)]
    struct Kind {
        name: String,
        examples: Vec<Value>,
    }
    let folder = root.join("target/octokit");
    let package = folder.join("node_modules").join(PACKAGE);
    std::fs::create_dir_all(&folder)?;
    // One at a time: tests that run side by side install it once.
    let lock = std::fs::File::create(folder.join("lock"))?;
    lock.lock()?;
    if !installed(&package) {
        let install = Command::new("npm")
            .args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--no-save",
                "--silent",
                "--prefix",
            ])
            .arg(&folder)
            .arg(format!("{PACKAGE}@{VERSION}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("npm is not here")?;
        ensure!(
            install.success() && installed(&package),
            "npm could not install {PACKAGE}"
        );
    }
    let index = package.join("api.github.com/index.json");
    let text = std::fs::read(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let kinds: Vec<Kind> =
        serde_json::from_slice(&text).with_context(|| format!("in {}", index.display()))?;
    let mut payloads = Vec::new();
    for kind in kinds {
        for (i, example) in kind.examples.iter().enumerate() {
            payloads.push(payload(&kind.name, i, example)?);
        }
    }
    Ok(payloads)
}

fn installed(package: &Path) -> bool {
    let manifest = std::fs::read(package.join("package.json")).ok();
    let manifest: Option<Value> = manifest.and_then(|text| serde_json::from_slice(&text).ok());
    manifest.is_some_and(|manifest| manifest["version"] == VERSION)
}

fn written_by_hand(root: &Path) -> Result<Vec<Payload>> {
    #[derive(Deserialize)]
    struct Written {
        event: String,
        payload: Value,
    }
    let folder = root.join("examples/github-activity/payloads");
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let read = |(i, path): (usize, &std::path::PathBuf)| {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let written: Written =
            serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))?;
        payload(&written.event, i, &written.payload)
    };
    paths.iter().enumerate().map(read).collect()
}

fn payload(event: &str, i: usize, value: &Value) -> Result<Payload> {
    let body = serde_json::to_vec(value)?;
    let mut hash = Sha256::new_with_prefix(format!("{event} {i} "));
    hash.update(&body);
    Ok(Payload {
        event: event.to_owned(),
        delivery: uuid(&hash.finalize()),
        body,
    })
}

/// The first 16 bytes as a UUID of version 8 ("what the application likes").
fn uuid(bytes: &[u8]) -> String {
    let mut bytes = bytes[..16].to_vec();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
