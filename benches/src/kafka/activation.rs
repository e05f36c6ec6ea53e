//! From `apply`'s answer until every processor runs the new version: a control plane, two processors, Kafka and Postgres.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use xtask::services::postgres;

use super::cluster::{Cluster, PARTITIONS, cluster};
use crate::meter::load;
use crate::place;
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["activation.ms"];
const VERSIONS: usize = 30;
const PROCESSORS: usize = 2;
/// For a slow machine; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

pub(crate) fn run() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    let postgres = postgres::Temporary::start()?;
    let scratch = place::scratch()?;
    let start = |role: &str| Serve::start(cluster, &postgres.url(), role, scratch.path());
    let control = start("control")?;
    let processors: Vec<Serve> = (0..PROCESSORS)
        .map(|_| start("processor"))
        .collect::<Result<_>>()?;
    for serve in &processors {
        serve.until("is ready", || serve.get("/readyz").is_ok())?;
    }
    control.until("answers", || control.get("/api/v1/graphs").is_ok())?;
    let module = std::fs::read(place::root().join("processor/tests/guests/copy.wasm"))?;
    let digest = control.put_module(&module)?;
    crate::say(&format!("  {VERSIONS} versions, one after another …"));
    let mut took = Vec::with_capacity(VERSIONS);
    for number in 0..VERSIONS {
        let epoch = control.apply(&graph(&digest, number))?;
        let answered = Instant::now();
        for serve in &processors {
            serve.until("follows", || serve.epoch().is_ok_and(|at| at >= epoch))?;
        }
        took.push(answered.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let (median, slowest) = (took[VERSIONS / 2], took[VERSIONS - 1]);
    let note = format!(
        "the slowest of {VERSIONS} versions, median {median:.0} ms: from the answer of apply until the last of {PROCESSORS} processors has followed it, by their metrics; each in a process of its own, a real broker, Postgres; {}",
        load()
    );
    Ok(vec![
        Row::new(NAMES[0], slowest, "ms")
            .target(Target::AtMost(1_000.0))
            .note(note),
    ])
}

/// Each another version.
fn graph(module: &str, number: usize) -> String {
    let millis = 1_000 + number;
    format!(
        "weir: 1\nname: activated\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  one: {{ uses: \"{module}\", from: [t], isolation: batch, limits: {{ time: {millis}ms }} }}\n"
    )
}

/// `weir serve` in one role.
struct Serve {
    child: Child,
    role: String,
    url: String,
    said: std::path::PathBuf,
    agent: ureq::Agent,
}

impl Serve {
    fn start(cluster: &Cluster, store: &str, role: &str, folder: &Path) -> Result<Self> {
        // a port that was free a moment ago
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let said = folder.join(format!("{role}-{}.log", address.port()));
        let child = Command::new(place::weir()?.0)
            .args(["serve", "--role", role])
            .env("WEIR_KAFKA__BROKERS", cluster.brokers())
            .env("WEIR_STORE__URL", store)
            .env("WEIR_LISTEN", address.to_string())
            .env_remove("WEIR_API_KEY")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said)?)
            .spawn()
            .context("cannot run weir")?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .build();
        Ok(Self {
            child,
            role: role.to_owned(),
            url: format!("http://{address}"),
            said,
            agent: agent.into(),
        })
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    fn put_module(&self, bytes: &[u8]) -> Result<String> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let url = format!("{}/api/v1/modules/{digest}", self.url);
        self.agent.put(url).send(bytes)?;
        Ok(digest)
    }

    /// The epoch of the change.
    fn apply(&self, source: &str) -> Result<u64> {
        let url = format!("{}/api/v1/graphs", self.url);
        let mut answer = self
            .agent
            .post(url)
            .send_json(json!({ "source": source }))?;
        let answer: Value = answer.body_mut().read_json()?;
        ensure!(answer["changed"] == true, "nothing changed: {answer}");
        answer["epoch"].as_u64().context("no epoch")
    }

    /// Of the newest change of a graph that it has followed.
    fn epoch(&self) -> Result<u64> {
        let text = self.get("/metrics")?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("weir_graphs_epoch "));
        Ok(value.context("it has followed none")?.parse::<f64>()? as u64)
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            ensure!(
                Instant::now() < deadline,
                "{} never {what}; it said:\n{}",
                self.role,
                std::fs::read_to_string(&self.said).unwrap_or_default()
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
