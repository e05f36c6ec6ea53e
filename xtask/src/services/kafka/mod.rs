//! Kafka (KRaft, combined nodes) from its Maven packages: one broker, or three that survive the loss of one; open to
//! whoever connects, or secured.

mod admin;
mod node;
mod security;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{Noted, await_ready, detach, free_ports, locked};
use super::temporary::{Folder, Server};
pub use admin::{Admin, Resource};
use node::{Node, Ports};
pub use node::{VERSION, class_path};
pub use security::{Properties, Security};

const READY: &str = "Kafka Server started";
const PATIENCE: Duration = Duration::from_secs(180);
/// Those of the settings that a test with dying brokers and dying clients waits for.
const SHORT: [(&str, &str); 3] = [
    ("broker.heartbeat.interval.ms", "500"),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "500",
    ),
    ("group.min.session.timeout.ms", "1000"),
];

/// A cluster that `start` leaves behind. Each kind has a folder of its own: none can take over what another holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub brokers: usize,
    pub secure: bool,
}

const KINDS: [Kind; 4] = [
    Kind::new(1, false),
    Kind::new(3, false),
    Kind::new(1, true),
    Kind::new(3, true),
];

impl Kind {
    pub const fn new(brokers: usize, secure: bool) -> Self {
        Self { brokers, secure }
    }

    fn folder(self) -> PathBuf {
        let secure = if self.secure { "-secure" } else { "" };
        super::folder().join(format!("kafka-of-{}{secure}", self.brokers))
    }

    fn security(self) -> Result<Option<Security>> {
        let folder = self.folder().join("security");
        self.secure.then(|| Security::prepare(folder)).transpose()
    }

    /// Those of its processes that run.
    fn noted(self) -> Vec<Noted> {
        (1..=self.brokers)
            .filter_map(|n| Noted::read(&self.folder().join(n.to_string()).join("pid")))
            .filter(Noted::runs)
            .collect()
    }

    fn runs(self) -> bool {
        !self.noted().is_empty()
    }
}

/// Starts the cluster that `stop` stops, or finds one running; returns `host:port,…`, and how a secured one is reached.
pub fn start(port: Option<u16>, kind: Kind) -> Result<(String, Option<Security>)> {
    let data = kind.folder();
    let _lock = locked(&data)?;
    let security = kind.security()?;
    if let Some(at) = running() {
        ensure!(
            kind.runs(),
            "another kafka runs at {at}; stop it first with `cargo xtask services stop kafka`"
        );
        return Ok((at, security));
    }
    let mut ports = free(kind.brokers)?;
    if let Some(port) = port {
        ports[0].broker = port;
    }
    let nodes = nodes(&data, &ports, security.as_ref(), &[]);
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
    Ok((at, security))
}

/// Stops what `start` started; whether it was running.
pub fn stop() -> Result<bool> {
    let running: Vec<Noted> = KINDS.into_iter().flat_map(Kind::noted).collect();
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
    let kind = KINDS.into_iter().find(|kind| kind.runs())?;
    std::fs::read_to_string(kind.folder().join("brokers")).ok()
}

/// How a `Temporary` shall be.
pub struct Builder {
    brokers: usize,
    secured: bool,
    properties: Vec<(String, String)>,
}

impl Builder {
    /// 1, or 3: then every topic has three replicas, two of which must have a record before it is acknowledged.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// It lets in only whom it knows, by TLS and SASL, and allows only what it was told.
    pub fn secured(mut self) -> Self {
        self.secured = true;
        self
    }

    /// A broker's setting; wins over ours and over earlier ones. `{broker}` and `{controller}` stand for its ports.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Dead brokers of three are missed after 3 s, one alone after 7 s; timed-out transactions within 0.5 s; sessions may
    /// be as short as 1 s.
    pub fn short_timeouts(mut self) -> Self {
        let short = SHORT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.properties.extend(short);
        // One that stands still for less is not fenced. Kafka 4.3 (KRaft) loses the markers of a transaction that it ends
        // while a partition has no leader, as all have when the only broker is fenced: the transaction is over, its
        // partitions stay behind it for ever ("likely deleted already and hence can be skipped" in the broker's log).
        let session = if self.brokers == 1 { "7000" } else { "3000" };
        self.property("broker.session.timeout.ms", session)
    }

    pub fn start(self) -> Result<Temporary> {
        let ports = free(self.brokers)?;
        let name = format!("kafka-{}", ports[0].broker);
        let folder = Folder::new(super::folder().join("temporary").join(name))?;
        let beside = folder.path().join("security");
        let mut temporary = Temporary {
            servers: ports.iter().map(|_| None).collect(),
            addresses: addresses(&ports),
            ports,
            security: self
                .secured
                .then(|| Security::prepare(beside))
                .transpose()?,
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
    security: Option<Security>,
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
            secured: false,
            properties: Vec::new(),
        }
    }

    /// `host:port,…`, of all brokers.
    pub fn brokers(&self) -> &str {
        &self.addresses
    }

    /// How a secured cluster is reached.
    pub fn security(&self) -> Result<&Security> {
        self.security.as_ref().context("this cluster is open")
    }

    /// Changes who a secured cluster knows and what they may do.
    pub fn admin(&self) -> Result<Admin> {
        Admin::start(self.brokers(), self.security()?)
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
        nodes(
            self.folder.path(),
            &self.ports,
            self.security.as_ref(),
            &self.properties,
        )
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

fn nodes<'a>(
    folder: &Path,
    all: &'a [Ports],
    security: Option<&'a Security>,
    properties: &'a [(String, String)],
) -> Vec<Node<'a>> {
    (0..all.len())
        .map(|number| Node {
            number,
            all,
            folder: folder.join((number + 1).to_string()),
            security,
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
