//! Apicurio Registry from its Maven package: a schema registry that speaks as Confluent's does, on loopback only, for
//! whoever connects. It holds everything in memory: a stop or a kill empties it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked, succeed};
use super::temporary::{Folder, Server};
use super::{java, maven};

const VERSION: &str = "3.3.3";
/// What it is compiled for.
const JAVA: u32 = 21;
const READY: &str = "Listening on: ";
const PATIENCE: Duration = Duration::from_secs(180);
const NEED: &str = "install curl (package curl)";

/// Starts the server that `stop` stops, or finds it running; returns its URL.
pub fn start(port: Option<u16>) -> Result<String> {
    let home = super::folder().join("registry");
    let _lock = locked(&home)?;
    if let Some(url) = running() {
        return Ok(url);
    }
    let mut ports = ports()?;
    if let Some(port) = port {
        ports.api = port;
    }
    let process = detach(&command(ports)?, &home)?;
    std::fs::write(home.join("url"), url(ports.api))?;
    ready(&process, &home, ports.api)?;
    Ok(url(ports.api))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let noted = super::folder().join("registry").join("pid");
    let Some(noted) = Noted::read(&noted).filter(Noted::runs) else {
        return Ok(false);
    };
    noted.stop(Duration::from_secs(15))?;
    Ok(true)
}

/// The URL of the server that `start` started.
pub fn running() -> Option<String> {
    let home = super::folder().join("registry");
    Noted::read(&home.join("pid")).filter(Noted::runs)?;
    std::fs::read_to_string(home.join("url")).ok()
}

/// An empty registry for this process alone. It is killed, and its folder removed, when this is dropped or the process
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
        let name = format!("registry-{}", ports.api);
        let folder = Folder::new(super::folder().join("temporary").join(name))?;
        let mut temporary = Self {
            server: None,
            ports,
            folder,
        };
        temporary.restart()?;
        Ok(temporary)
    }

    /// What Weir and other clients take: the API's root, without a slash at its end.
    pub fn url(&self) -> String {
        url(self.ports.api)
    }

    /// kill -9; what it held is gone.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("this registry does not run")?;
        server.kill()
    }

    /// Stops its answers, without closing what is connected.
    pub fn freeze(&self) -> Result<()> {
        let server = self.server.as_ref();
        server
            .context("this registry does not run")?
            .signal("-STOP")
    }

    pub fn thaw(&self) -> Result<()> {
        let server = self.server.as_ref();
        server
            .context("this registry does not run")?
            .signal("-CONT")
    }

    /// Starts it again after `kill`, at its old place and empty; returns when it serves.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "this registry runs");
        let home = self.folder.path().join("1");
        std::fs::create_dir_all(&home)?;
        let server = Server::start(&home, &command(self.ports)?)?;
        ready(&Noted::of(server.pid())?, &home, self.ports.api)?;
        self.server = Some(server);
        Ok(())
    }
}

/// Where one listens.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    /// Health and metrics of its own; nobody asks for them.
    management: u16,
}

fn ports() -> Result<Ports> {
    let [api, management] = free_ports()?;
    Ok(Ports { api, management })
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/apis/ccompat/v7")
}

fn command(ports: Ports) -> Result<Vec<String>> {
    let java = java::newest(JAVA).context("starting a schema registry")?;
    let mut all = vec![java.display().to_string()];
    let settings = [
        "-Xms64m",
        "-Xmx384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
        "-Dquarkus.http.host=127.0.0.1",
        "-Dquarkus.management.host=127.0.0.1",
        "-Dquarkus.http.access-log.enabled=false",
    ];
    all.extend(settings.map(str::to_owned));
    all.extend([
        format!("-Dquarkus.http.port={}", ports.api),
        format!("-Dquarkus.management.port={}", ports.management),
        "-jar".to_owned(),
        application()?.display().to_string(),
    ]);
    Ok(all)
}

/// The jar to start, fetched by Maven on first use.
fn application() -> Result<PathBuf> {
    let folder = super::folder().join(format!("registry-{VERSION}"));
    let application = folder.join("app");
    let _lock = locked(&folder)?;
    if !application.exists() {
        fetch(&folder, &application).context("fetching Apicurio Registry")?;
    }
    Ok(application.join("quarkus-run.jar"))
}

fn fetch(folder: &Path, application: &Path) -> Result<()> {
    let archive = maven::copy(
        &format!("io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"),
        folder,
        &format!("apicurio-registry-app-{VERSION}-all.tar.gz"),
    )?;
    // under another name until it is whole
    let partial = folder.join("app.partial");
    std::fs::create_dir_all(&partial)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&partial);
    succeed(&mut tar, "install tar (package tar)")?;
    std::fs::rename(&partial, application)?;
    Ok(std::fs::remove_file(archive)?)
}

/// It listens before it serves; then it gets the level that others than it begin with.
fn ready(process: &Noted, home: &Path, port: u16) -> Result<()> {
    let context = "starting a schema registry";
    await_ready(process, &home.join("log"), READY, port, PATIENCE).context(context)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--max-time", "10", "--noproxy", "*", "-X", "PUT"]);
        curl.args(["-H", "content-type: application/json"]);
        curl.args(["-d", r#"{"compatibility":"BACKWARD"}"#]);
        curl.arg(format!("{}/config", url(port)));
        let output = curl.stdin(Stdio::null()).output().context(NEED)?;
        if output.status.success() {
            return Ok(());
        }
        ensure!(
            process.runs() && Instant::now() < deadline,
            "{context}: it does not take its settings: {}; see {}",
            String::from_utf8_lossy(&output.stderr).trim(),
            home.join("log").display()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
