//! One Kafka broker (KRaft, combined node) from its Maven packages.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{Noted, await_ready, free_ports, locked, succeed};

/// 4.4.0 is listed, but packages that it needs are not there.
const VERSION: &str = "4.3.1";
/// Any; every data folder is formatted for the same one.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
const READY: &str = "Kafka Server started";
const PATIENCE: Duration = Duration::from_secs(180);

/// What Maven has to fetch. Kafka leaves the binding of slf4j to its distribution, which is no package.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>weir</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
"#;

const LOGGING: &str = "Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: \"%d %p %m (%c)%n\"}}
  Loggers:
    Root: {level: INFO, AppenderRef: {ref: out}}
";

fn data() -> PathBuf {
    super::folder().join("kafka")
}

/// Starts the broker that `stop` stops, or finds it running; returns `host:port`.
pub fn start(port: Option<u16>) -> Result<String> {
    let data = data();
    let _lock = locked(&data)?;
    if let Some(brokers) = running() {
        return Ok(brokers);
    }
    let [free, controller] = free_ports()?;
    let port = port.unwrap_or(free);
    prepare(&data, port, controller)?;
    let log = std::fs::File::create(data.join("log"))?;
    let mut java = Command::new("java");
    java.args(arguments(&data)?)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // its own process group: Ctrl-C here is not meant for it
    std::os::unix::process::CommandExt::process_group(&mut java, 0);
    let started = java
        .spawn()
        .context("running java; install Java 17 or newer")?;
    let noted = Noted::of(started.id())?;
    noted.write(&data.join("pid"))?;
    std::fs::write(data.join("brokers"), format!("127.0.0.1:{port}"))?;
    await_ready(&noted, &data.join("log"), READY, port, PATIENCE).context("starting kafka")?;
    Ok(format!("127.0.0.1:{port}"))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let Some(noted) = Noted::read(&data().join("pid")).filter(Noted::runs) else {
        return Ok(false);
    };
    noted.stop(Duration::from_secs(30))?;
    Ok(true)
}

/// Where the broker that `start` started listens.
pub fn running() -> Option<String> {
    Noted::read(&data().join("pid")).filter(Noted::runs)?;
    std::fs::read_to_string(data().join("brokers")).ok()
}

/// A broker with empty topics, for this process alone. It is killed, and its folder removed, when this is dropped or the
/// process ends, also by a panic or `kill -9`: a shell waits for the end of a pipe that only this process holds.
pub struct Temporary {
    brokers: String,
    shell: Child,
    /// Dropped before the shell is waited for.
    pipe: Option<ChildStdin>,
}

impl Temporary {
    pub fn start() -> Result<Self> {
        let [port, controller] = free_ports()?;
        let data = super::folder()
            .join("temporary")
            .join(format!("kafka-{port}"));
        std::fs::create_dir_all(&data)?;
        prepare(&data, port, controller)?;
        let script = r#"dir=$1; shift; "$@" >"$dir/log" 2>&1 </dev/null & pid=$!; echo $pid >"$dir/started"; cat >/dev/null; kill -9 $pid; wait $pid; rm -rf "$dir""#;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script, "sh"])
            .arg(&data)
            .arg("java")
            .args(arguments(&data)?);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut shell = shell.spawn().context("running sh")?;
        let pipe = shell.stdin.take();
        let noted = Noted::of(shell.id())?;
        let temporary = Self {
            brokers: format!("127.0.0.1:{port}"),
            shell,
            pipe,
        };
        await_ready(&noted, &data.join("log"), READY, port, PATIENCE).context("starting kafka")?;
        Ok(temporary)
    }

    /// `host:port`
    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("waiting for kafka's end: {error}");
        }
    }
}

/// Fetches the jars, writes the settings and formats the folder, each if it has not been done.
fn prepare(data: &Path, port: u16, controller: u16) -> Result<()> {
    std::fs::create_dir_all(data)?;
    std::fs::write(data.join("log4j2.yaml"), LOGGING)?;
    std::fs::write(
        data.join("server.properties"),
        settings(data, port, controller)?,
    )?;
    if data.join("logs").join("meta.properties").exists() {
        return Ok(());
    }
    let mut format = Command::new("java");
    format.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        &class_path()?,
        "kafka.tools.StorageTool",
        "format",
    ]);
    format
        .args(["--ignore-formatted", "-t", CLUSTER, "-c"])
        .arg(data.join("server.properties"));
    succeed(&mut format, "install Java 17 or newer")
}

fn settings(data: &Path, port: u16, controller: u16) -> Result<String> {
    let logs = data.join("logs");
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={}
",
        logs.display()
    );
    for (name, value) in [
        ("default.replication.factor", "1"),
        ("min.insync.replicas", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        // a missing topic shall be an error, not a new topic
        ("auto.create.topics.enable", "false"),
        ("num.network.threads", "2"),
        ("num.io.threads", "4"),
        ("log.cleaner.dedupe.buffer.size", "16777216"),
        // on a machine with other work a broker may hear nothing for longer than the 9 s after which it is fenced
        ("broker.session.timeout.ms", "60000"),
    ] {
        writeln!(text, "{name}={value}")?;
    }
    Ok(text)
}

fn arguments(data: &Path) -> Result<Vec<String>> {
    let logging = format!(
        "-Dlog4j2.configurationFile={}",
        data.join("log4j2.yaml").display()
    );
    let settings = data.join("server.properties").display().to_string();
    let fixed = [
        "-Xms256m",
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend([
        logging,
        "-cp".to_owned(),
        class_path()?,
        "kafka.Kafka".to_owned(),
        settings,
    ]);
    Ok(all)
}

/// The jars, fetched by Maven on first use.
fn class_path() -> Result<String> {
    let folder = super::folder().join(format!("kafka-{VERSION}"));
    let jars = folder.join("jars");
    let _lock = locked(&folder)?;
    if !jars.exists() {
        let pom = folder.join("pom.xml");
        std::fs::write(&pom, POM.replace("VERSION", VERSION))?;
        // under another name until it is whole
        let partial = folder.join("jars.partial");
        let mut mvn = Command::new("mvn");
        mvn.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-f",
        ])
        .arg(&pom);
        mvn.arg(format!("-DoutputDirectory={}", partial.display()));
        succeed(&mut mvn, "install Maven (package maven)").context("fetching kafka")?;
        std::fs::rename(&partial, &jars)?;
    }
    Ok(format!("{}/*", jars.display()))
}
