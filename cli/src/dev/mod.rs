//! `weir dev`: every role in one process on the embedded log, in one folder; and the throw-away server behind
//! `weir run FILE`, which is the same in memory.

mod roles;
mod watch;

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::args::{DevArgs, Format, Global, LogFormat};
use crate::client::Client;
use crate::commands::{Ephemeral, apply};
use crate::config::{self, Overrides};
use crate::exit::Failure;
use crate::logging::{self, say};
use crate::output::Output;
use crate::roles::Destinations;
use processor::web::WebConfig;
use roles::{Place, Roles, RolesConfig};
use watch::Watch;

/// Where graph files are looked for below a folder: in it, and in its folders down to this depth.
const SEARCH_DEPTH: usize = 3;

/// Runs until Ctrl-C or SIGTERM, then finishes what is under way.
pub(crate) fn dev(args: DevArgs, global: Global) -> anyhow::Result<()> {
    logging::start("warn", LogFormat::Text);
    let api_key = global.api_key.clone().filter(|key| !key.is_empty());
    guard(args.listen, api_key.as_deref())?;
    std::fs::create_dir_all(&args.data)
        .with_context(|| format!("cannot create the folder {}", args.data.display()))?;
    let _lock = lock(&args.data)?;
    let graphs = graph_files(&args.paths)?;
    let config = config::load(global.config.as_ref(), Overrides::of_process(Vec::new()))?;
    let roles = Roles::start(RolesConfig {
        place: Place::Folder(args.data.clone()),
        listen: args.listen,
        api_key: api_key.clone(),
        destinations: Destinations::new(&config.destinations)?,
        web: config.http.web().map_err(Failure::usage)?,
    })?;
    let url = roles.url().to_owned();
    let client = || Client::new(&url, api_key.clone());
    let applied = apply_all(&client()?, &graphs, global.output);
    if let Err(e) = applied {
        roles.stop()?;
        return Err(e);
    }
    let progress = Output::standard(global.output).progress();
    let watch = (!args.paths.is_empty())
        .then(|| Watch::start(client()?, args.paths.clone(), progress).map_err(anyhow::Error::from))
        .transpose()?;
    say(&format!(
        "weir dev is ready\n  API    {url}/api/v1\n  hooks  {url}/hooks/default/…\n  data   {}\nStop with Ctrl-C: nothing is lost.",
        args.data.display()
    ));
    let outcome = roles.wait();
    drop(watch);
    say("weir dev stops: finishing what is under way");
    outcome.and(roles.stop())
}

/// Listening beyond this machine needs a key, until accounts exist.
pub(crate) fn guard(listen: SocketAddr, api_key: Option<&str>) -> Result<(), Failure> {
    if listen.ip().is_loopback() || api_key.is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{listen} can be reached from outside this machine; set WEIR_API_KEY first, or listen on 127.0.0.1"
    )))
}

/// A server in memory, for one command.
pub(crate) fn ephemeral(_file: &Path) -> anyhow::Result<Box<dyn Ephemeral>> {
    logging::start("error", LogFormat::Text);
    let folder = tempfile::tempdir().context("cannot create a folder for temporary files")?;
    let listen = ([127, 0, 0, 1], 0).into();
    let roles = Roles::start(RolesConfig {
        place: Place::Memory(folder.path().to_owned()),
        listen,
        api_key: None,
        destinations: Destinations::default(),
        web: WebConfig::default(),
    })?;
    Ok(Box::new(Server {
        roles: Some(roles),
        _folder: folder,
    }))
}

struct Server {
    roles: Option<Roles>,
    _folder: tempfile::TempDir,
}

impl Ephemeral for Server {
    fn url(&self) -> String {
        self.roles
            .as_ref()
            .map(|roles| roles.url().to_owned())
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.roles.take().map(Roles::stop) {
            say(&format!("warning: {e:#}"));
        }
    }
}

/// One process owns a data folder; the lock goes with the process, however it ends.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "another weir is running on {}; stop it, or give this one a folder of its own with --data",
            data.display()
        ))
        .into()),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Files as they are; in folders every `*.yaml`, `*.yml` that says `weir:`.
fn graph_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, SEARCH_DEPTH, &mut files)?;
        } else if path.is_file() {
            files.push(path.clone());
        } else {
            return Err(Failure::usage(format!("{} does not exist", path.display())).into());
        }
    }
    Ok(files)
}

fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') && name != "target" && name != "node_modules" {
                search(&path, depth - 1, files)?;
            }
        } else if (name.ends_with(".yaml") || name.ends_with(".yml"))
            && !name.ends_with(".test.yaml")
            && std::fs::read_to_string(&path)
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("weir:")))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn apply_all(client: &Client, graphs: &[PathBuf], format: Format) -> anyhow::Result<()> {
    let output = Output::standard(format);
    for file in graphs {
        let applied = apply::apply_file(client, file, output.progress())?;
        let text = |field: &str| applied[field].as_str().unwrap_or_default().to_owned();
        let version = text("version");
        say(&format!(
            "  graph  {} {} from {}",
            text("name"),
            version.get(..12).unwrap_or(&version),
            file.display()
        ));
    }
    Ok(())
}
