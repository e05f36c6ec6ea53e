//! Kafka (KRaft, combined nodes) from its Maven packages: one broker, or three that survive the loss of one.

mod node;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked};
use super::temporary::{Folder, Server};
pub use node::class_path;
use node::{Node, Ports};

const READY: &str = "Kafka Server started";
const PATIENCE: Duration = Duration::from_secs(180);
/// Those of the settings that a test with dying brokers and dying clients waits for.
const SHORT: [(&str, &str); 4] = [
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "500",
    ),
    ("group.min.session.timeout.ms", "1000"),
];

/// A cluster of one has another folder than one of three: neither can take over what the other holds.
fn data(brokers: usize) -> PathBuf {
    super::folder().join(format!("kafka-of-{brokers}"))
}

/// Starts the cluster that `stop` stops, or finds one running; returns `host:port,…`.
pub fn start(port: Option<u16>, brokers: u16) -> Result<String> {
    let brokers = usize::from(brokers);
    let data = data(brokers);
    let _lock = locked(&data)?;
    if let Some(at) = running() {
        ensure!(
            at.split(',').count() == brokers,
            "another kafka runs at {at}; stop it first with `cargo xtask services stop kafka`"
        );
        return Ok(at);
    }
    let mut ports = free(brokers)?;
    if let Some(port) = port {
        ports[0].broker = port;
    }
    let nodes = nodes(&data, &ports, &[]);
    prepare(&nodes)?;
    for node in &nodes {
        detach(&node.command()?, &node.folder)?;
    }
    let at = addresses(&ports);
    std::fs::write(data.join("brokers"), &at)?;
    for (node, ports) in nodes.iter().zip(&ports) {
        let noted = Noted::read(&node.folder.join("pid")).context("no process was noted")?;
        ready(&noted, &node.folder, ports.broker)?;
    }
    Ok(at)
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let running: Vec<Noted> = [1, 3].into_iter().flat_map(noted).collect();
    for noted in &running {
        noted.ask()?;
    }
    for noted in &running {
        // the last of three finds no majority to say goodbye to
        noted.stop(Duration::from_secs(if running.len() > 1 { 8 } else { 30 }))?;
    }
    Ok(!running.is_empty())
}

/// Where the brokers that `start` started listen.
pub fn running() -> Option<String> {
    let brokers = [1, 3]
        .into_iter()
        .find(|brokers| !noted(*brokers).is_empty())?;
    std::fs::read_to_string(data(brokers).join("brokers")).ok()
}

/// Those of its processes that run.
fn noted(brokers: usize) -> Vec<Noted> {
    (1..=brokers)
        .filter_map(|n| Noted::read(&data(brokers).join(n.to_string()).join("pid")))
        .filter(Noted::runs)
        .collect()
}

/// How a `Temporary` shall be.
pub struct Builder {
    brokers: usize,
    properties: Vec<(String, String)>,
}

impl Builder {
    /// 1, or 3: then every topic has three replicas, two of which must have a record before it is acknowledged.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// A broker's setting; wins over ours and over earlier ones. `{broker}` and `{controller}` stand for its ports.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Dead brokers are missed after 3 s, and timed-out transactions within 0.5 s; sessions may be as short as 1 s.
    pub fn short_timeouts(mut self) -> Self {
        let short = SHORT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.properties.extend(short);
        self
    }

    pub fn start(self) -> Result<Temporary> {
        let ports = free(self.brokers)?;
        let name = format!("kafka-{}", ports[0].broker);
        let folder = Folder::new(super::folder().join("temporary").join(name))?;
        let mut temporary = Temporary {
            servers: ports.iter().map(|_| None).collect(),
            addresses: addresses(&ports),
            ports,
            properties: self.properties,
            folder,
        };
        prepare(&temporary.nodes())?;
        // a node is ready only when most of them are there
        for number in 0..temporary.ports.len() {
            temporary.launch(number)?;
        }
        for number in 0..temporary.ports.len() {
            temporary.await_ready(number)?;
        }
        Ok(temporary)
    }
}

/// A cluster with empty topics, for this process alone. It is killed, and its folder removed, when this is dropped or
/// the process ends, however that ends. Brokers are numbered from 0.
pub struct Temporary {
    servers: Vec<Option<Server>>,
    addresses: String,
    ports: Vec<Ports>,
    properties: Vec<(String, String)>,
    /// Dropped last.
    folder: Folder,
}

impl Temporary {
    /// One broker.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    pub fn builder() -> Builder {
        Builder {
            brokers: 1,
            properties: Vec::new(),
        }
    }

    /// `host:port,…`, of all brokers.
    pub fn brokers(&self) -> &str {
        &self.addresses
    }

    /// kill -9 of one broker.
    pub fn kill(&mut self, broker: usize) -> Result<()> {
        let mut server = self.servers[broker]
            .take()
            .context("this broker does not run")?;
        server.kill()
    }

    /// Starts a broker that was killed, at its old place; returns when it serves again.
    pub fn restart(&mut self, broker: usize) -> Result<()> {
        ensure!(self.servers[broker].is_none(), "this broker runs");
        self.launch(broker)?;
        self.await_ready(broker)
    }

    /// The broker stops where it is, its connections stay open.
    pub fn freeze(&self, broker: usize) -> Result<()> {
        self.running(broker)?.signal("-STOP")
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&self, broker: usize) -> Result<()> {
        self.running(broker)?.signal("-CONT")
    }

    /// What the brokers have said, for a test that has to explain itself.
    pub fn log(&self, broker: usize) -> PathBuf {
        self.folder
            .path()
            .join((broker + 1).to_string())
            .join("log")
    }

    fn running(&self, broker: usize) -> Result<&Server> {
        self.servers[broker]
            .as_ref()
            .context("this broker does not run")
    }

    fn nodes(&self) -> Vec<Node<'_>> {
        nodes(self.folder.path(), &self.ports, &self.properties)
    }

    fn launch(&mut self, number: usize) -> Result<()> {
        let server = {
            let node = &self.nodes()[number];
            Server::start(&node.folder, &node.command()?)?
        };
        self.servers[number] = Some(server);
        Ok(())
    }

    fn await_ready(&self, number: usize) -> Result<()> {
        let noted = Noted::of(self.running(number)?.pid())?;
        ready(
            &noted,
            &self.nodes()[number].folder,
            self.ports[number].broker,
        )
    }
}

fn free(brokers: usize) -> Result<Vec<Ports>> {
    ensure!(
        matches!(brokers, 1 | 3),
        "there are clusters of 1 broker and of 3, none of {brokers}"
    );
    let all: [u16; 6] = free_ports()?;
    let pairs = all.chunks_exact(2).take(brokers);
    Ok(pairs
        .map(|pair| Ports {
            broker: pair[0],
            controller: pair[1],
        })
        .collect())
}

fn addresses(ports: &[Ports]) -> String {
    let all: Vec<String> = ports
        .iter()
        .map(|ports| format!("127.0.0.1:{}", ports.broker))
        .collect();
    all.join(",")
}

fn nodes<'a>(folder: &Path, all: &'a [Ports], properties: &'a [(String, String)]) -> Vec<Node<'a>> {
    (0..all.len())
        .map(|number| Node {
            number,
            all,
            folder: folder.join((number + 1).to_string()),
            properties,
        })
        .collect()
}

/// All at once: formatting takes a start of Java each.
fn prepare(nodes: &[Node<'_>]) -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| node.prepare()))
            .collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().expect("preparing does not panic"))
    })
}

fn ready(noted: &Noted, folder: &Path, port: u16) -> Result<()> {
    await_ready(noted, &folder.join("log"), READY, port, PATIENCE).context("starting kafka")
}
