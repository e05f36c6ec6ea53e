//! Graph files and modules on this machine: reading, resolving and proving them as the server will prove them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use schemas::graph::{self, Graph, Resolve};
use schemas::module::{self, ModuleInterface};
use sha2::{Digest, Sha256};

use crate::client::{Client, segment};
use crate::exit::Failure;

/// A graph with all that `apply` sends.
pub(super) struct Local {
    pub(super) file: PathBuf,
    pub(super) source: String,
    pub(super) graph: Graph,
    /// Canonical JSON.
    pub(super) canonical: Vec<u8>,
    pub(super) version: String,
    /// The modules found on this machine, by digest.
    pub(super) modules: BTreeMap<String, LocalModule>,
}

pub(super) struct LocalModule {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) interface: ModuleInterface,
}

/// Reads and proves the graph alone.
pub(super) fn parse(file: &Path) -> anyhow::Result<(String, Graph)> {
    let source =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let graph = graph::parse(&source, &file.display().to_string())
        .map_err(|problems| Failure::failed(problems.to_string()))?;
    Ok((source, graph))
}

/// Reads and proves the graph with its modules and files.
pub(super) fn load(file: &Path, server: Option<&Client>) -> anyhow::Result<Local> {
    let (source, parsed) = parse(file)?;
    let mut folder = Folder {
        base: file.parent().unwrap_or(Path::new("")).to_owned(),
        modules: BTreeMap::new(),
        server,
        depth: 0,
    };
    let graph = parsed
        .resolve(&mut folder)
        .map_err(|problems| Failure::failed(problems.to_string()))?;
    let missing = missing_grants(&graph, &folder.modules);
    if !missing.is_empty() {
        return Err(Failure::failed(format!(
            "{}: not everything that the modules ask for is granted\n  - {}",
            file.display(),
            missing.join("\n  - ")
        ))
        .into());
    }
    let canonical = graph
        .canonical()
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    let version = graph::version(&canonical);
    Ok(Local {
        file: file.to_owned(),
        source,
        graph,
        canonical,
        version,
        modules: folder.modules,
    })
}

/// The files that a graph names, those of its sub-graphs too; of what cannot be read as much as can.
pub(super) fn named(file: &Path) -> Vec<PathBuf> {
    named_within(file, 0)
}

fn named_within(file: &Path, depth: usize) -> Vec<PathBuf> {
    let mut names = Names {
        base: file.parent().unwrap_or(Path::new("")).to_owned(),
        files: Vec::new(),
        depth,
    };
    if let Ok((_, graph)) = parse(file) {
        // nothing is resolved: it only tells what it is asked for
        drop(graph.resolve(&mut names));
    }
    names.files
}

/// Notes what a graph asks for.
struct Names {
    base: PathBuf,
    files: Vec<PathBuf>,
    depth: usize,
}

impl Resolve for Names {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        if uses.contains('/') || uses.ends_with(".wasm") {
            self.files.push(self.base.join(uses));
        }
        Err(String::new())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        self.files.push(self.base.join(path));
        Err(String::new())
    }

    fn graph(&mut self, named: &str) -> Result<Graph, String> {
        let path = self.base.join(named);
        if path.is_file() && self.depth < DEPTH_MAX {
            self.files.extend(named_within(&path, self.depth + 1));
            self.files.push(path);
        }
        Err(String::new())
    }
}

/// Says what a module file is.
pub(super) fn inspect(path: &Path) -> anyhow::Result<(String, usize, ModuleInterface)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let interface = module::inspect(&bytes)
        .map_err(|problem| Failure::failed(format!("{}: {problem}", path.display())))?;
    Ok((digest(&bytes), bytes.len(), interface))
}

fn missing_grants(graph: &Graph, modules: &BTreeMap<String, LocalModule>) -> Vec<String> {
    let mut missing = Vec::new();
    for step in &graph.steps {
        let Some(found) = modules.get(&step.uses) else {
            continue;
        };
        if let Err(lines) = module::check_grants(&found.interface, step) {
            missing.extend(
                lines.into_iter().map(|line| {
                    format!("step \"{}\" ({}): {line}", step.name, found.path.display())
                }),
            );
        }
    }
    missing
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::from("sha256:"), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
}

/// Resolves paths relative to the graph's folder, and names by asking the server.
struct Folder<'c> {
    base: PathBuf,
    modules: BTreeMap<String, LocalModule>,
    server: Option<&'c Client>,
    /// How deep in sub-graphs.
    depth: usize,
}

/// Sub-graphs within sub-graphs.
const DEPTH_MAX: usize = 8;

impl Folder<'_> {
    fn server(&self, what: &str) -> Result<&Client, String> {
        self.server.ok_or_else(|| {
            format!("{what} is the server's to know; name a server (--url), or write a path")
        })
    }
}

fn said(failure: Failure) -> String {
    failure.message
}

impl Resolve for Folder<'_> {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        if uses.starts_with("sha256:") {
            return Ok(uses.to_owned());
        }
        let is_path = uses.contains('/') || uses.ends_with(".wasm");
        if !is_path {
            let (name, version) = uses.split_once('@').unwrap_or((uses, "latest"));
            let server = self.server(&format!("the module's name \"{uses}\""))?;
            let path = format!(
                "/api/v1/module-names/{}/{}",
                segment(name),
                segment(version)
            );
            let named = server.get(&path, &[]).map_err(said)?;
            let digest = named["digest"].as_str().unwrap_or_default();
            return Ok(digest.to_owned());
        }
        let path = self.base.join(uses);
        let bytes = std::fs::read(&path)
            .map_err(|error| format!("cannot read the module {}: {error}", path.display()))?;
        let interface =
            module::inspect(&bytes).map_err(|problem| format!("{}: {problem}", path.display()))?;
        let digest = digest(&bytes);
        self.modules.insert(
            digest.clone(),
            LocalModule {
                path,
                bytes,
                interface,
            },
        );
        Ok(digest)
    }

    fn graph(&mut self, named: &str) -> Result<Graph, String> {
        if self.depth >= DEPTH_MAX {
            return Err(format!(
                "sub-graphs lie in each other more than {DEPTH_MAX} deep; does one use itself?"
            ));
        }
        if named.contains('/') || named.ends_with(".yaml") || named.ends_with(".yml") {
            let path = self.base.join(named);
            let (_, parsed) = parse(&path).map_err(|e| format!("{e:#}"))?;
            let mut inner = Folder {
                base: path.parent().unwrap_or(Path::new("")).to_owned(),
                modules: BTreeMap::new(),
                server: self.server,
                depth: self.depth + 1,
            };
            let graph = parsed.resolve(&mut inner).map_err(|e| e.to_string())?;
            self.modules.append(&mut inner.modules);
            return Ok(graph);
        }
        let (name, version) = named.split_once('@').unwrap_or((named, "active"));
        let server = self.server(&format!("the graph's name \"{named}\""))?;
        let path = format!(
            "/api/v1/graphs/{}/versions/{}",
            segment(name),
            segment(version)
        );
        let found = server.get(&path, &[]).map_err(said)?;
        Graph::from_canonical(found["definition"].to_string().as_bytes()).map_err(|e| e.to_string())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        let path = self.base.join(path);
        std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
    }
}
