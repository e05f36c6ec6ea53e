//! A `weir dev` of the bench's own, seen from outside: when it is ready, what it weighs, which threads work.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{self, Used};

pub(crate) const SECRET: &str = "only for the bench";
/// For a slow machine under load; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Weir {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the process to "weir dev is ready".
    pub(crate) ready_after: Duration,
    /// What it said on stderr, drained by a thread.
    said: Receiver<String>,
}

impl Weir {
    /// Starts it on this folder with this graph, and waits until it is ready.
    pub(crate) fn start(binary: &Path, graph: &Path, data: &Path) -> Result<Self> {
        // a port that was free a moment ago
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("dev")
            .arg(graph)
            .arg("--data")
            .arg(data)
            .args(["--listen", &address.to_string()])
            .env("GITHUB_WEBHOOK_SECRET", SECRET)
            .env_remove("WEIR_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (tell, said) = mpsc::channel();
        // ends with the process, whose stderr it reads
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let (lines, rest) = mpsc::channel();
        let mut heard = String::new();
        loop {
            match said.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                Ok((at, line)) if line.contains("weir dev is ready") => {
                    std::thread::spawn(move || {
                        said.iter().for_each(|(_, line)| {
                            lines.send(line).ok();
                        });
                    });
                    return Ok(Self {
                        child,
                        address,
                        ready_after: at - started,
                        said: rest,
                    });
                }
                Ok((_, line)) => heard += &(line + "\n"),
                Err(e) => {
                    child.kill().ok();
                    child.wait().ok();
                    bail!("weir dev did not start ({e}):\n{heard}");
                }
            }
        }
    }

    /// A line of `/proc/PID/status` in MiB.
    pub(crate) fn status_mib(&self, name: &str) -> Result<f64> {
        process::status_mib(self.child.id(), name)
    }

    /// What the process has used, threads that have ended included.
    pub(crate) fn used(&self) -> Result<Used> {
        process::used(self.child.id())
    }

    /// What its threads have used, by their names.
    pub(crate) fn threads(&self) -> Result<BTreeMap<String, Used>> {
        process::threads(self.child.id())
    }

    /// Warnings and errors that it has logged since the last time; usually none.
    pub(crate) fn complaints(&self) -> String {
        self.said
            .try_iter()
            .filter(|line| line.contains(" WARN ") || line.contains("ERROR "))
            .map(|line| line + "\n")
            .collect()
    }

    fn said(&self) -> String {
        self.said.try_iter().map(|line| line + "\n").collect()
    }

    /// As Ctrl-C does; must end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .context("cannot run kill")?;
        ensure!(
            asked.success(),
            "weir dev has ended by itself: {}",
            self.said()
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "weir dev ended with {status}:\n{}",
                    self.said()
                );
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "weir dev did not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
