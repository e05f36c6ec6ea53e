//! The digest of all that a guest is made from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::Folder;
use super::build::{LINK_ARGS, TARGETS_SALT};

/// sha256 in hex over the guest's own files, its workspace's manifest and lock, the crates beside it that are no guests
/// (guests may share them), the SDK, the WIT and the flags of the build. Paths are relative and sorted, so that two checkouts agree.
pub fn digest(root: &Path, folder: &Folder, guest: &str) -> Result<String> {
    let in_folder = |name: &str| folder.path.join(name);
    let mut paths = vec![
        in_folder("Cargo.toml"),
        in_folder("Cargo.lock"),
        "sdk/rust/Cargo.toml".into(),
    ];
    let mut trees = vec![in_folder(guest), "sdk/rust/src".into(), "sdk/wit".into()];
    trees.extend(shared(root, folder)?);
    for tree in trees {
        walk(root, &tree, &mut paths)?;
    }
    paths.sort();
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(TARGETS_SALT.as_bytes());
    part(LINK_ARGS.join(" ").as_bytes());
    for path in paths {
        part(path.to_string_lossy().as_bytes());
        part(
            &std::fs::read(root.join(&path))
                .with_context(|| format!("cannot read {}", path.display()))?,
        );
    }
    Ok(hex::encode(hash.finalize()))
}

/// sha256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Crates in the folder that are no guests.
fn shared(root: &Path, folder: &Folder) -> Result<Vec<PathBuf>> {
    let place = root.join(&folder.path);
    let mut crates = Vec::new();
    for entry in place
        .read_dir()
        .with_context(|| format!("cannot list {}", place.display()))?
    {
        let name = entry?.file_name();
        let is_guest = folder.all.iter().any(|guest| name == guest.as_str());
        // The SDK is linked there; its parts that count are named above.
        if !is_guest && name != "sdk" && place.join(&name).join("Cargo.toml").is_file() {
            crates.push(folder.path.join(name));
        }
    }
    Ok(crates)
}

fn walk(root: &Path, tree: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let place = root.join(tree);
    for entry in place
        .read_dir()
        .with_context(|| format!("cannot list {}", place.display()))?
    {
        let path = tree.join(entry?.file_name());
        if root.join(&path).is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
