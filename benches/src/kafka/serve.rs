//! The real `weir serve` as a process, and what the bench asks of it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::cluster::Cluster;
use crate::place;

/// For a slow machine; reaching it is a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

/// Killed when it is dropped.
pub(super) struct Serve {
    child: Child,
    role: String,
    url: String,
    said: std::path::PathBuf,
    agent: ureq::Agent,
}

impl Serve {
    pub(super) fn start(
        cluster: &Cluster,
        store: &str,
        role: &str,
        settings: &[(&str, &str)],
        folder: &Path,
    ) -> Result<Self> {
        // a port that was free a moment ago
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let said = folder.join(format!("{role}-{}.log", address.port()));
        let child = Command::new(place::weir()?.0)
            .args(["serve", "--role", role])
            .env("WEIR_KAFKA__BROKERS", cluster.brokers())
            .env("WEIR_STORE__URL", store)
            .env("WEIR_LISTEN", address.to_string())
            .envs(settings.iter().copied())
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

    pub(super) fn get(&self, path: &str) -> Result<String> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    pub(super) fn put_module(&self, bytes: &[u8]) -> Result<String> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let url = format!("{}/api/v1/modules/{digest}", self.url);
        self.agent.put(url).send(bytes)?;
        Ok(digest)
    }

    /// The epoch of the change.
    pub(super) fn apply(&self, source: &str) -> Result<u64> {
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
    pub(super) fn epoch(&self) -> Result<u64> {
        let text = self.get("/metrics")?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("weir_graphs_epoch "));
        Ok(value.context("it has followed none")?.parse::<f64>()? as u64)
    }

    pub(super) fn until(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
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

    /// Lets it leave its groups, so that the next one need not wait for them.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").arg(pid).status()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.role);
        Ok(())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
