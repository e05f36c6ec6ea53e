//! One node of a cluster: its packages, its settings, its command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::security::{ADMIN, Security};
use crate::services::maven;
use crate::services::process::{locked, succeed};

/// 4.4.0 is listed, but packages that it needs are not there.
pub const VERSION: &str = "4.3.1";
/// Any; every data folder is formatted for the same one.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

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

/// Where one node listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) broker: u16,
    pub(super) controller: u16,
}

/// A node of a cluster: broker and controller at once.
pub(super) struct Node<'a> {
    /// From 0; Kafka's id is one more.
    pub(super) number: usize,
    pub(super) all: &'a [Ports],
    pub(super) folder: PathBuf,
    /// Without it anybody may do anything.
    pub(super) security: Option<&'a Security>,
    /// Settings that win over ours.
    pub(super) properties: &'a [(String, String)],
}

impl Node<'_> {
    /// Fetches the jars, writes the settings and formats the folder, each if it has not been done.
    pub(super) fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        std::fs::write(self.folder.join("log4j2.yaml"), LOGGING)?;
        let settings = self.folder.join("server.properties");
        std::fs::write(&settings, self.settings()?)?;
        if self.folder.join("logs").join("meta.properties").exists() {
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
            .arg(settings);
        if let Some(security) = self.security {
            // everybody else is added to the running cluster
            let admin = format!(
                "SCRAM-SHA-512=[name={ADMIN},password={}]",
                security.password()
            );
            format.args(["--add-scram", &admin]);
        }
        succeed(&mut format, "install Java 17 or newer")
    }

    fn settings(&self) -> Result<String> {
        let Ports { broker, controller } = self.all[self.number];
        let voters: Vec<String> = self
            .all
            .iter()
            .enumerate()
            .map(|(number, ports)| format!("{}@127.0.0.1:{}", number + 1, ports.controller))
            .collect();
        let listener = match self.security {
            None => "PLAINTEXT",
            Some(_) => "SASL_SSL",
        };
        let mut text = format!(
            "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
controller.listener.names=CONTROLLER
listeners={listener}://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listener}://127.0.0.1:{broker}
listener.security.protocol.map={listener}:{listener},CONTROLLER:{listener}
inter.broker.listener.name={listener}
log.dirs={}
",
            self.number + 1,
            voters.join(","),
            self.folder.join("logs").display()
        );
        let (replicas, in_sync) = if self.all.len() < 3 {
            ("1", "1")
        } else {
            ("3", "2")
        };
        let ours = [
            ("default.replication.factor", replicas),
            ("min.insync.replicas", in_sync),
            ("offsets.topic.replication.factor", replicas),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", replicas),
            ("transaction.state.log.min.isr", in_sync),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", replicas),
            ("share.coordinator.state.topic.min.isr", in_sync),
            ("group.initial.rebalance.delay.ms", "0"),
            // a missing topic shall be an error, not a new topic
            ("auto.create.topics.enable", "false"),
            ("num.network.threads", "2"),
            ("num.io.threads", "4"),
            ("log.cleaner.dedupe.buffer.size", "16777216"),
            // on a machine with other work a broker may hear nothing for longer than the 9 s after which it is fenced
            ("broker.session.timeout.ms", "60000"),
        ];
        let secure = self.security.map(Security::of_brokers).unwrap_or_default();
        let theirs = secure.iter().chain(self.properties);
        let theirs = theirs.map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.into_iter().chain(theirs) {
            let value = value
                .replace("{broker}", &broker.to_string())
                .replace("{controller}", &controller.to_string());
            writeln!(text, "{name}={value}")?;
        }
        Ok(text)
    }

    pub(super) fn command(&self) -> Result<Vec<String>> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut all: Vec<String> = [
            "java",
            "-Xms256m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
        ]
        .map(str::to_owned)
        .into();
        all.extend([
            format!("-Dlog4j2.configurationFile={}", file("log4j2.yaml")),
            "-cp".to_owned(),
            class_path()?,
            "kafka.Kafka".to_owned(),
            file("server.properties"),
        ]);
        Ok(all)
    }
}

/// The jars of Kafka, its clients and its tools, as Java's `-cp` takes them; fetched by Maven on first use.
pub fn class_path() -> Result<String> {
    let folder = crate::services::folder().join(format!("kafka-{VERSION}"));
    let jars = folder.join("jars");
    let _lock = locked(&folder)?;
    if !jars.exists() {
        fetch(&folder, &jars)?;
    }
    Ok(format!("{}/*", jars.display()))
}

fn fetch(folder: &Path, jars: &Path) -> Result<()> {
    let pom = folder.join("pom.xml");
    std::fs::write(&pom, POM.replace("VERSION", VERSION))?;
    maven::fetch(&pom, jars).context("fetching kafka")
}
