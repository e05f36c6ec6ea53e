//! Steps as components: built from the sources in the repository, committed beside them and held to them.
//!
//! A user of Weir needs no WASM toolchain for the examples and tests, so their components are in the repository. Each
//! folder of steps (a cargo workspace of its own) has a `guests.lock.toml` that says what each component was made
//! from. Invariants: a component that is committed has the digest in its lock; where the digest of the sources differs
//! from the lock's, the component has *drifted*; the same sources and the same toolchain give the same bytes, whatever
//! the checkout's path.

mod build;
mod lock;
mod sources;
mod toolchain;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use build::build;
pub use lock::{LOCK_NAME, Lock, Locked};
pub use sources::digest;
pub use toolchain::{NoToolchain, Toolchain};

/// A cargo workspace whose members are steps.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Relative to the root of the checkout.
    pub path: PathBuf,
    /// Names of those that something is to be done with; each is its crate's name and its folder's.
    pub guests: Vec<String>,
    /// Names of all.
    pub all: Vec<String>,
}

/// What became of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its sources and its bytes are those of the lock, and a rebuild gave the same bytes.
    Rebuilt,
    /// Its sources and its bytes are those of the lock; why it was not rebuilt.
    NotRebuilt(String),
    /// It was built and written.
    Written { bytes: usize },
    /// It is not what the lock says, or what its sources say.
    Drifted(String),
}

/// One line of what `cargo xtask guests` did.
#[derive(Clone, Debug)]
pub struct Line {
    pub guest: PathBuf,
    pub outcome: Outcome,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guest = self.guest.display();
        match &self.outcome {
            Outcome::Rebuilt => write!(f, "{guest}: same, rebuilt byte for byte"),
            Outcome::NotRebuilt(why) => write!(f, "{guest}: same by its lock, not rebuilt: {why}"),
            Outcome::Written { bytes } => write!(f, "{guest}: written, {bytes} bytes"),
            Outcome::Drifted(why) => write!(f, "{guest}: drifted: {why}; run `cargo xtask guests`"),
        }
    }
}

/// Every folder of steps in the checkout: the processor's test guests and the examples' steps.
pub fn folders(root: &Path) -> Result<Vec<Folder>> {
    let mut paths = vec![PathBuf::from("processor/tests/guests")];
    let examples = root.join("examples");
    for entry in examples
        .read_dir()
        .with_context(|| format!("cannot list {}", examples.display()))?
    {
        let steps = Path::new("examples").join(entry?.file_name()).join("steps");
        if root.join(&steps).join("Cargo.toml").is_file() {
            paths.push(steps);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| Folder::read(root, path))
        .collect()
}

/// Builds the guests of these names (all where none is given), writes the components and the locks.
pub fn write(root: &Path, names: &[String]) -> Result<Vec<Line>> {
    let toolchain = Toolchain::find()?;
    let mut lines = Vec::new();
    for folder in chosen(root, names)? {
        let lock_path = root.join(&folder.path).join(LOCK_NAME);
        let mut lock = if lock_path.exists() {
            Lock::read(&lock_path)?
        } else {
            Lock::default()
        };
        for (guest, component) in build(root, &folder, &toolchain)? {
            let path = folder.component(&guest);
            std::fs::write(root.join(&path), &component)
                .with_context(|| format!("cannot write {}", path.display()))?;
            lines.push(Line {
                guest: path,
                outcome: Outcome::Written {
                    bytes: component.len(),
                },
            });
            lock.put(Locked {
                sources: digest(root, &folder, &guest)?,
                toolchain: toolchain.id.clone(),
                component: sources::sha256(&component),
                name: guest,
            });
        }
        lock.keep(&folder.all);
        lock.write(&lock_path)?;
    }
    Ok(lines)
}

/// What differs from its lock or its sources, by their digests; nothing is built.
pub fn digests(root: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for folder in folders(root)? {
        lines.extend(drifts(root, &folder)?.0);
    }
    Ok(lines)
}

/// Those that have drifted, the names of the others, and the lock.
fn drifts(root: &Path, folder: &Folder) -> Result<(Vec<Line>, Vec<String>, Lock)> {
    let lock = Lock::read(&root.join(&folder.path).join(LOCK_NAME))?;
    let (mut lines, mut same) = (Vec::new(), Vec::new());
    for guest in &folder.guests {
        match drifted(root, folder, guest, &lock)? {
            Some(why) => lines.push(Line {
                guest: folder.component(guest),
                outcome: Outcome::Drifted(why),
            }),
            None => same.push(guest.clone()),
        }
    }
    Ok((lines, same, lock))
}

/// Holds the components to their locks and their sources. Where the toolchain that made them is found they are built
/// again and compared byte by byte; each line says whether that was done.
pub fn check(root: &Path, names: &[String]) -> Result<Vec<Line>> {
    let toolchain = Toolchain::find();
    let mut lines = Vec::new();
    for folder in chosen(root, names)? {
        let (drifted, same, lock) = drifts(root, &folder)?;
        lines.extend(drifted);
        lines.extend(rebuilt(
            root,
            &Folder {
                guests: same,
                ..folder
            },
            &lock,
            toolchain.as_ref(),
        )?);
    }
    Ok(lines)
}

impl Folder {
    fn read(root: &Path, path: PathBuf) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Manifest {
            workspace: Workspace,
        }
        #[derive(serde::Deserialize)]
        struct Workspace {
            members: Vec<String>,
        }
        let manifest = root.join(&path).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("in {}", manifest.display()))?;
        let all = manifest.workspace.members;
        Ok(Self {
            path,
            guests: all.clone(),
            all,
        })
    }

    /// Where the component of a guest lies, relative to the root.
    pub fn component(&self, guest: &str) -> PathBuf {
        self.path.join(format!("{guest}.wasm"))
    }
}

fn chosen(root: &Path, names: &[String]) -> Result<Vec<Folder>> {
    let mut folders = folders(root)?;
    if names.is_empty() {
        return Ok(folders);
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !folders.iter().any(|folder| folder.guests.contains(name)))
    {
        let known: Vec<&str> = folders
            .iter()
            .flat_map(|folder| &folder.guests)
            .map(String::as_str)
            .collect();
        bail!(
            "there is no guest \"{unknown}\"; there are: {}",
            known.join(", ")
        );
    }
    for folder in &mut folders {
        folder.guests.retain(|guest| names.contains(guest));
    }
    folders.retain(|folder| !folder.guests.is_empty());
    Ok(folders)
}

/// Why this guest's component is not what its lock or its sources say.
fn drifted(root: &Path, folder: &Folder, guest: &str, lock: &Lock) -> Result<Option<String>> {
    let Some(locked) = lock.get(guest) else {
        return Ok(Some(format!("{LOCK_NAME} does not know it")));
    };
    let component = root.join(folder.component(guest));
    if !component.exists() {
        return Ok(Some("its component is missing".into()));
    }
    if sources::sha256(&std::fs::read(&component)?) != locked.component {
        return Ok(Some(format!("its component is not the one in {LOCK_NAME}")));
    }
    if digest(root, folder, guest)? != locked.sources {
        return Ok(Some("its sources have changed since it was built".into()));
    }
    Ok(None)
}

fn rebuilt(
    root: &Path,
    folder: &Folder,
    lock: &Lock,
    toolchain: Result<&Toolchain, &NoToolchain>,
) -> Result<Vec<Line>> {
    let locked_by = |guest: &str| {
        lock.get(guest)
            .map_or("", |locked| locked.toolchain.as_str())
    };
    let line = |guest: &str, outcome| Line {
        guest: folder.component(guest),
        outcome,
    };
    let here = match toolchain {
        Ok(toolchain) => toolchain,
        Err(NoToolchain) => {
            let why = "no WASM toolchain here";
            return Ok(folder
                .guests
                .iter()
                .map(|g| line(g, Outcome::NotRebuilt(why.into())))
                .collect());
        }
    };
    let (same, other): (Vec<String>, Vec<String>) = folder
        .guests
        .iter()
        .cloned()
        .partition(|guest| locked_by(guest) == here.id);
    let not_rebuilt = |guest: &String| {
        let why = format!("it was made by {}, here is {}", locked_by(guest), here.id);
        line(guest, Outcome::NotRebuilt(why))
    };
    let mut lines: Vec<Line> = other.iter().map(not_rebuilt).collect();
    for (guest, component) in build(
        root,
        &Folder {
            guests: same,
            ..folder.clone()
        },
        here,
    )? {
        let expected = lock.get(&guest).map(|locked| locked.component.as_str());
        let outcome = if expected == Some(sources::sha256(&component).as_str()) {
            Outcome::Rebuilt
        } else {
            Outcome::Drifted("the same sources and toolchain gave other bytes".into())
        };
        lines.push(line(&guest, outcome));
    }
    Ok(lines)
}
