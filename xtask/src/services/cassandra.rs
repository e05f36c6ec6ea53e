//! Cassandra from its Maven package: one node that speaks CQL as ScyllaDB does, on loopback only, for whoever connects.
//!
//! It acknowledges a write when that is on disk (`commitlog_sync: batch`), so a kill loses nothing that it took. What only
//! ScyllaDB has (shards, tablets, `USING TIMEOUT`) it cannot show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked};
use super::temporary::{Folder, Server};
use super::{java, maven};

const VERSION: &str = "5.0.9";
/// It refuses newer ones.
const JAVA: u32 = 17;
const READY: &str = "Starting listening for CQL clients";
const PATIENCE: Duration = Duration::from_secs(180);

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>weir</groupId><artifactId>cassandra</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>VERSION</version></dependency>
  </dependencies>
</project>
"#;

const LOGGING: &str = r#"<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %-5level [%thread] %F:%L - %msg%n</pattern></encoder></appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
"#;

/// The jar has no settings of its own. Small, and without the pauses that a cluster of many needs.
const SETTINGS: &str = r#"cluster_name: weir
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "127.0.0.1:STORAGE"}]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: STORAGE
native_transport_port: CQL
start_native_transport: true
data_file_directories: ["HOME/data"]
commitlog_directory: "HOME/commitlog"
hints_directory: "HOME/hints"
saved_caches_directory: "HOME/saved_caches"
cdc_raw_directory: "HOME/cdc_raw"
commitlog_sync: batch
commitlog_segment_size: 8MiB
commitlog_total_space: 128MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
key_cache_size: 8MiB
counter_cache_size: 4MiB
concurrent_reads: 8
concurrent_writes: 8
concurrent_compactors: 1
auto_snapshot: false
storage_compatibility_mode: NONE
materialized_views_enabled: true
user_defined_functions_enabled: false
"#;

/// What it reaches for inside Java, by module.
const OPENS: [(&str, &str); 4] = [
    (
        "java.base",
        "java.io java.lang java.lang.module java.lang.reflect java.math java.net java.nio java.nio.charset \
         java.nio.file.spi java.time java.util java.util.concurrent java.util.concurrent.atomic \
         java.util.concurrent.locks jdk.internal.loader jdk.internal.math jdk.internal.module jdk.internal.ref \
         jdk.internal.reflect jdk.internal.util.jar jdk.internal.vm sun.nio.ch",
    ),
    ("java.rmi", "sun.rmi.transport.tcp"),
    ("jdk.management", "com.sun.management.internal"),
    ("jdk.compiler", "com.sun.tools.javac.file"),
];
const EXPORTS: [(&str, &str); 7] = [
    (
        "java.base",
        "java.lang.ref jdk.internal.misc jdk.internal.ref jdk.internal.util sun.nio.ch",
    ),
    ("java.management", "com.sun.jmx.remote.security"),
    ("java.management.rmi", "com.sun.jmx.remote.internal.rmi"),
    (
        "java.rmi",
        "sun.rmi.registry sun.rmi.server sun.rmi.transport.tcp",
    ),
    ("java.sql", "java.sql"),
    ("jdk.attach", "sun.tools.attach"),
    ("jdk.unsupported", "sun.misc"),
];

/// Starts the node that `stop` stops, or finds it running; returns `host:port`.
pub fn start(port: Option<u16>) -> Result<String> {
    let home = super::folder().join("cassandra");
    let _lock = locked(&home)?;
    if let Some(at) = running() {
        return Ok(at);
    }
    let mut ports = ports()?;
    if let Some(port) = port {
        ports.cql = port;
    }
    let process = detach(&command(&home, ports)?, &home)?;
    std::fs::write(home.join("at"), at(ports))?;
    ready(&process, &home, ports)?;
    Ok(at(ports))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let noted = super::folder().join("cassandra").join("pid");
    let Some(noted) = Noted::read(&noted).filter(Noted::runs) else {
        return Ok(false);
    };
    noted.stop(Duration::from_secs(20))?;
    Ok(true)
}

/// Where the node that `start` started listens.
pub fn running() -> Option<String> {
    let home = super::folder().join("cassandra");
    Noted::read(&home.join("pid")).filter(Noted::runs)?;
    std::fs::read_to_string(home.join("at")).ok()
}

/// An empty node for this process alone. It is killed, and its folder removed, when this is dropped or the process ends,
/// however that ends.
pub struct Temporary {
    server: Option<Server>,
    ports: Ports,
    /// Dropped last.
    folder: Folder,
}

impl Temporary {
    pub fn start() -> Result<Self> {
        let ports = ports()?;
        let name = format!("cassandra-{}", ports.cql);
        let folder = Folder::new(super::folder().join("temporary").join(name))?;
        let mut temporary = Self {
            server: None,
            ports,
            folder,
        };
        temporary.restart()?;
        Ok(temporary)
    }

    /// `host:port`, where it speaks CQL.
    pub fn at(&self) -> String {
        at(self.ports)
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("this cassandra does not run")?;
        server.kill()
    }

    /// Stops its answers, without closing what is connected.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let server = self.server.as_ref();
        server.context("this cassandra does not run")?.signal(name)
    }

    /// Starts it again after `kill`, at its old place with what it held; returns when it serves.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "this cassandra runs");
        let home = self.folder.path().join("1");
        let server = Server::start(&home, &command(&home, self.ports)?)?;
        ready(&Noted::of(server.pid())?, &home, self.ports)?;
        self.server = Some(server);
        Ok(())
    }
}

/// Where one listens.
#[derive(Clone, Copy)]
struct Ports {
    cql: u16,
    /// For other nodes; there are none.
    storage: u16,
}

fn ports() -> Result<Ports> {
    let [cql, storage] = free_ports()?;
    Ok(Ports { cql, storage })
}

fn at(ports: Ports) -> String {
    format!("127.0.0.1:{}", ports.cql)
}

fn ready(process: &Noted, home: &Path, ports: Ports) -> Result<()> {
    await_ready(process, &home.join("log"), READY, ports.cql, PATIENCE)
        .context("starting cassandra")
}

/// Writes the settings into the folder, and gives what to start.
fn command(home: &Path, ports: Ports) -> Result<Vec<String>> {
    std::fs::create_dir_all(home)?;
    let settings = home.join("cassandra.yaml");
    let text = SETTINGS
        .replace("HOME", &home.display().to_string())
        .replace("STORAGE", &ports.storage.to_string())
        .replace("CQL", &ports.cql.to_string());
    std::fs::write(&settings, text)?;
    let logging = home.join("logback.xml");
    std::fs::write(&logging, LOGGING)?;
    let jars = jars()?;
    let java = java::exactly(JAVA).context("starting cassandra")?;

    let mut all = vec![java.display().to_string()];
    let fixed = [
        "-Xms256m",
        "-Xmx256m",
        "-Xss512k",
        "-XX:MaxDirectMemorySize=256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djdk.attach.allowAttachSelf=true",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        "-Dcassandra-foreground=yes",
        "-Dcassandra.ring_delay_ms=100",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0",
        "-Dchronicle.analytics.disable=true",
        "-Dio.netty.transport.estimateSizeOnSubmit=false",
    ];
    all.extend(fixed.map(str::to_owned));
    for (flag, modules) in [("--add-opens", &OPENS[..]), ("--add-exports", &EXPORTS[..])] {
        for (module, packages) in modules {
            for package in packages.split_whitespace() {
                all.extend([flag.to_owned(), format!("{module}/{package}=ALL-UNNAMED")]);
            }
        }
    }
    all.extend([
        format!("-javaagent:{}", agent(&jars)?.display()),
        format!("-Dcassandra.config=file://{}", settings.display()),
        format!("-Dcassandra.storagedir={}", home.display()),
        format!("-Dlogback.configurationFile={}", logging.display()),
        "-cp".to_owned(),
        format!("{}/*", jars.display()),
        "org.apache.cassandra.service.CassandraDaemon".to_owned(),
    ]);
    Ok(all)
}

/// The folder with its jars, fetched by Maven on first use.
fn jars() -> Result<PathBuf> {
    let folder = super::folder().join(format!("cassandra-{VERSION}"));
    let jars = folder.join("jars");
    let _lock = locked(&folder)?;
    if !jars.exists() {
        let pom = folder.join("pom.xml");
        std::fs::write(&pom, POM.replace("VERSION", VERSION))?;
        maven::fetch(&pom, &jars).context("fetching cassandra")?;
    }
    Ok(jars)
}

/// The jar by which it measures its own memory.
fn agent(jars: &Path) -> Result<PathBuf> {
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("jamm-"))
    };
    let mut entries = std::fs::read_dir(jars)?.filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .find(named)
        .with_context(|| format!("no jamm among the jars in {}", jars.display()))
}
