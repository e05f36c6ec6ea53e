//! PostgreSQL from Debian's package, on loopback only, trusting whoever connects.
//!
//! It refuses to run as root: root hands the folder and the process to the user `postgres`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked, succeed};
use super::temporary::{Folder, Server};

const READY: &str = "database system is ready to accept connections";
const PATIENCE: Duration = Duration::from_secs(60);
const NEED: &str = "install PostgreSQL (package postgresql)";

/// Starts the server that `stop` stops, or finds it running; returns its URL.
pub fn start(port: Option<u16>) -> Result<String> {
    let noted = place()?.join("postgres");
    let _lock = locked(&noted)?;
    if let Some(url) = running() {
        return Ok(url);
    }
    let [free] = free_ports()?;
    let port = port.unwrap_or(free);
    let cluster = Cluster::prepare(&noted)?;
    let process = detach(&cluster.command(port), &noted)?;
    std::fs::write(noted.join("url"), url(port))?;
    await_ready(&process, &noted.join("log"), READY, port, PATIENCE)
        .context("starting postgres")?;
    Ok(url(port))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let noted = place()?.join("postgres").join("pid");
    let Some(noted) = Noted::read(&noted).filter(Noted::runs) else {
        return Ok(false);
    };
    // clients are cut off instead of waited for
    noted.signal("-INT")?;
    noted.stop(Duration::from_secs(30))?;
    Ok(true)
}

/// The URL of the server that `start` started.
pub fn running() -> Option<String> {
    let folder = place().ok()?.join("postgres");
    Noted::read(&folder.join("pid")).filter(Noted::runs)?;
    std::fs::read_to_string(folder.join("url")).ok()
}

/// An empty server for this process alone. It is killed, and its folder removed, when this is dropped or the process
/// ends, however that ends.
pub struct Temporary {
    server: Option<Server>,
    port: u16,
    cluster: Cluster,
    /// Dropped last.
    folder: Folder,
}

impl Temporary {
    pub fn start() -> Result<Self> {
        let [port] = free_ports()?;
        let name = format!("postgres-{port}");
        let folder = Folder::new(place()?.join("temporary").join(name))?;
        let cluster = Cluster::prepare(&folder.path().join("1"))?;
        let mut temporary = Self {
            server: None,
            port,
            cluster,
            folder,
        };
        temporary.restart()?;
        Ok(temporary)
    }

    /// Of the database `postgres`, as its superuser; other databases can be created in it.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Has `psql` run this; gives the rows, a line each.
    pub fn sql(&self, text: &str) -> Result<String> {
        let mut psql = Command::new(self.cluster.programs.join("psql"));
        psql.arg(self.url()).args(["-XAtqc", text]);
        let output = psql.output().context(NEED)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "psql failed: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("this postgres does not run")?;
        server.kill()
    }

    /// Starts it again after `kill`, at its old place; returns when it serves.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "this postgres runs");
        let home = self.folder.path().join("1");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = Server::start(&home, &self.cluster.command(self.port))?;
            let ready = Noted::of(server.pid()).and_then(|noted| {
                await_ready(&noted, &home.join("log"), READY, self.port, PATIENCE)
            });
            // the killed one's children take a moment to notice
            let early = || {
                std::fs::read_to_string(home.join("log"))
                    .is_ok_and(|text| text.contains("still in use") || text.contains("lock file"))
            };
            match ready {
                Ok(()) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(_) if early() && Instant::now() < deadline => drop(server),
                Err(error) => return Err(error.context("starting postgres")),
            }
        }
    }
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// A folder that `initdb` has filled, and who may run a server on it.
struct Cluster {
    programs: PathBuf,
    database: PathBuf,
    /// Empty unless this is root.
    as_user: Vec<String>,
}

impl Cluster {
    fn prepare(home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        let cluster = Self {
            programs: programs()?,
            database: home.join("database"),
            as_user: as_user()?,
        };
        if !cluster.database.join("PG_VERSION").exists() {
            cluster.fill()?;
        }
        Ok(cluster)
    }

    fn fill(&self) -> Result<()> {
        std::fs::create_dir_all(&self.database)?;
        if !self.as_user.is_empty() {
            succeed(Command::new("chown").arg(USER).arg(&self.database), NEED)?;
        }
        let mut arguments = self.as_user.clone();
        arguments.push(self.programs.join("initdb").display().to_string());
        arguments.extend(["-D".to_owned(), self.database.display().to_string()]);
        let fixed = [
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ];
        arguments.extend(fixed.map(str::to_owned));
        let mut initdb = Command::new(&arguments[0]);
        // a folder that its user can be in
        succeed(initdb.args(&arguments[1..]).current_dir("/"), NEED)
    }

    fn command(&self, port: u16) -> Vec<String> {
        let mut all = self.as_user.clone();
        all.push(self.programs.join("postgres").display().to_string());
        all.extend(["-D".to_owned(), self.database.display().to_string()]);
        all.extend(["-p".to_owned(), port.to_string()]);
        // no socket in the file system: its path has a limit that a checkout may exceed
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=64MB",
            "max_connections=100",
        ] {
            all.extend(["-c".to_owned(), setting.to_owned()]);
        }
        all
    }
}

/// Who runs the server when we are root; Debian's package makes it.
const USER: &str = "postgres";

/// What to put before a command so that it does not run as root.
fn as_user() -> Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let root = std::fs::metadata("/proc/self")
        .context("reading /proc/self")?
        .uid()
        == 0;
    if !root {
        return Ok(Vec::new());
    }
    Ok(vec![
        "setpriv".to_owned(),
        format!("--reuid={USER}"),
        format!("--regid={USER}"),
        "--init-groups".to_owned(),
    ])
}

/// Where the databases lie: beside the other services, or, where the server's user cannot reach that (a checkout in a
/// home folder), in the system's temporary folder.
fn place() -> Result<PathBuf> {
    let ours = super::folder();
    std::fs::create_dir_all(&ours)?;
    let as_user = as_user()?;
    let reached = as_user.is_empty()
        || Command::new(&as_user[0])
            .args(&as_user[1..])
            .args(["test", "-x"])
            .arg(&ours)
            .current_dir("/")
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    Ok(if reached {
        ours
    } else {
        std::env::temp_dir().join("weir-services")
    })
}

/// Where the newest installed version's programs lie: Debian keeps them out of the PATH.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .max_by_key(|bin| {
            let version = bin.parent().and_then(Path::file_name);
            version.and_then(|version| version.to_str()?.parse::<u32>().ok())
        });
    let in_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
    };
    newest.or_else(in_path).context(NEED)
}
