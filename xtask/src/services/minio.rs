//! MinIO, built by Go from its module: object storage that speaks S3, on loopback only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked, succeed};
use super::temporary::{Folder, Server};

/// Its last release; the tags are no semantic versions, so Go knows it by this one only.
const VERSION: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";
const MODULE: &str = "github.com/minio/minio";
const NEED: &str =
    "install Go 1.24 or newer (go.dev, or package golang), and let it reach proxy.golang.org";
const READY: &str = "API: http://127.0.0.1:";
const PATIENCE: Duration = Duration::from_secs(60);
/// Of whoever connects; it would be the same without being told.
pub const USER: &str = "minioadmin";
pub const PASSWORD: &str = "minioadmin";

/// Starts the server that `stop` stops, or finds it running; returns its URL.
pub fn start(port: Option<u16>) -> Result<String> {
    let home = super::folder().join("minio");
    let _lock = locked(&home)?;
    if let Some(url) = running() {
        return Ok(url);
    }
    let mut ports = ports()?;
    if let Some(port) = port {
        ports.api = port;
    }
    let process = detach(&command(&home, ports)?, &home)?;
    std::fs::write(home.join("url"), url(ports))?;
    ready(&process, &home, ports)?;
    Ok(url(ports))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let noted = super::folder().join("minio").join("pid");
    let Some(noted) = Noted::read(&noted).filter(Noted::runs) else {
        return Ok(false);
    };
    noted.stop(Duration::from_secs(15))?;
    Ok(true)
}

/// The URL of the server that `start` started.
pub fn running() -> Option<String> {
    let home = super::folder().join("minio");
    Noted::read(&home.join("pid")).filter(Noted::runs)?;
    std::fs::read_to_string(home.join("url")).ok()
}

/// An empty server for this process alone. It is killed, and its folder removed, when this is dropped or the process
/// ends, however that ends.
pub struct Temporary {
    server: Option<Server>,
    ports: Ports,
    /// Dropped last.
    folder: Folder,
}

impl Temporary {
    pub fn start() -> Result<Self> {
        let ports = ports()?;
        let name = format!("minio-{}", ports.api);
        let folder = Folder::new(super::folder().join("temporary").join(name))?;
        let mut temporary = Self {
            server: None,
            ports,
            folder,
        };
        temporary.restart()?;
        Ok(temporary)
    }

    /// The endpoint that S3 clients take; they address buckets by path, and sign with [`USER`] and [`PASSWORD`].
    pub fn url(&self) -> String {
        url(self.ports)
    }

    /// An empty bucket. It is made as a folder of its drive, which is what S3's `CreateBucket` makes there.
    pub fn bucket(&self, name: &str) -> Result<()> {
        let drive = drive(&self.home());
        std::fs::create_dir(drive.join(name)).context("making a bucket")
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("this minio does not run")?;
        server.kill()
    }

    /// Starts it again after `kill`, at its old place with what it held; returns when it serves.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "this minio runs");
        let home = self.home();
        let server = Server::start(&home, &command(&home, self.ports)?)?;
        ready(&Noted::of(server.pid())?, &home, self.ports)?;
        self.server = Some(server);
        Ok(())
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("1")
    }
}

fn drive(home: &Path) -> PathBuf {
    home.join("drive")
}

/// Where one listens.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    /// Its dashboard.
    console: u16,
}

fn ports() -> Result<Ports> {
    let [api, console] = free_ports()?;
    Ok(Ports { api, console })
}

fn url(ports: Ports) -> String {
    format!("http://127.0.0.1:{}", ports.api)
}

fn ready(process: &Noted, home: &Path, ports: Ports) -> Result<()> {
    await_ready(process, &home.join("log"), READY, ports.api, PATIENCE).context("starting minio")
}

fn command(home: &Path, ports: Ports) -> Result<Vec<String>> {
    let drive = drive(home);
    std::fs::create_dir_all(&drive)?;
    let set = [
        format!("HOME={}", home.display()),
        format!("MINIO_ROOT_USER={USER}"),
        format!("MINIO_ROOT_PASSWORD={PASSWORD}"),
        // it asks nobody for updates
        "MINIO_UPDATE=off".to_owned(),
        "MINIO_CALLHOME_ENABLE=off".to_owned(),
        "GOMEMLIMIT=512MiB".to_owned(),
    ];
    let mut all = vec!["env".to_owned()];
    all.extend(set);
    all.extend([
        program()?.display().to_string(),
        "server".to_owned(),
        "--address".to_owned(),
        format!("127.0.0.1:{}", ports.api),
        "--console-address".to_owned(),
        format!("127.0.0.1:{}", ports.console),
        drive.display().to_string(),
    ]);
    Ok(all)
}

/// The program, built on first use, which takes some minutes.
fn program() -> Result<PathBuf> {
    let folder = super::folder().join(format!("minio-{VERSION}"));
    let program = folder.join("minio");
    let _lock = locked(&folder)?;
    if !program.exists() {
        let mut go = Command::new("go");
        go.args(["install", "-trimpath", "-ldflags", "-s -w"]);
        go.arg(format!("{MODULE}@{VERSION}"));
        // outside the checkout: a module around it would be asked
        go.env("GOBIN", &folder).current_dir("/");
        succeed(&mut go, NEED).context("building minio")?;
    }
    Ok(program)
}
