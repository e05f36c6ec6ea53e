//! `weir serve` as a process that things are done to.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use crate::weir::{PATIENCE, binary, free_port, until};

/// The time-outs of `make prove`, short enough to be waited for, and transactions long enough to be hit.
const SETTINGS: [(&str, &str); 5] = [
    ("WEIR_PROCESSOR__COMMIT_INTERVAL", "100ms"),
    ("WEIR_KAFKA__SOCKET_TIMEOUT", "2s"),
    ("WEIR_KAFKA__TRANSACTION_TIMEOUT", "10s"),
    ("WEIR_KAFKA__SESSION_TIMEOUT", "6s"),
    ("WEIR_KAFKA__MAX_POLL_INTERVAL", "20s"),
];

/// How a process is started.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) role: &'static str,
    /// On top of `SETTINGS`.
    pub(crate) env: Vec<(String, String)>,
}

impl Recipe {
    pub(crate) fn processor() -> Self {
        Self {
            binary: binary(),
            role: "processor",
            env: Vec::new(),
        }
    }

    /// The API; without a sink beside it, it has no history to show and never says that it is ready.
    pub(crate) fn control() -> Self {
        Self {
            role: "control",
            ..Self::processor()
        }
    }

    /// One of another role.
    pub(crate) fn of(role: &'static str) -> Self {
        Self {
            role,
            ..Self::processor()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub(crate) struct Process {
    child: Child,
    port: u16,
    said: PathBuf,
    /// Left where it is, to be looked at, if the test fails.
    ended: bool,
}

impl Process {
    /// Starts it, without waiting for anything.
    pub(crate) fn start(cluster: &Cluster, recipe: &Recipe) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let port = free_port();
        let said = cluster.folder().join(format!("process-{number}.log"));
        let log = File::create(&said).unwrap();
        let mut command = Command::new(&recipe.binary);
        command.args(["serve", "--role", recipe.role]);
        command
            .envs(SETTINGS)
            .env("WEIR_KAFKA__BROKERS", cluster.proxied())
            .env("WEIR_STORE__URL", cluster.store_url())
            .env("WEIR_LISTEN", format!("127.0.0.1:{port}"))
            .envs(recipe.env.iter().map(|(name, value)| (name, value)))
            // a process finds files of settings and data where it is
            .current_dir(cluster.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("the binary can be run");
        Self {
            child,
            port,
            said,
            ended: false,
        }
    }

    /// Starts several and waits until all of them are ready.
    pub(crate) fn start_all(cluster: &Cluster, recipe: &Recipe, count: usize) -> Vec<Self> {
        let mut all: Vec<Self> = (0..count).map(|_| Self::start(cluster, recipe)).collect();
        all.iter_mut().for_each(Self::ready);
        all
    }

    /// Waits until it says that it takes part.
    pub(crate) fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/readyz").is_none() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "a process is not ready ({ended:?}); it said:\n{}",
                self.said()
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let has_ended = self.child.try_wait().unwrap().is_some();
        self.ended |= has_ended;
        has_ended
    }

    /// Where its API is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The body of a 200; none if it does not answer so.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        // one that is frozen takes the connection and never answers
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        agent.get(url).call().ok()?.body_mut().read_to_string().ok()
    }

    /// The body of a 200 to a JSON body.
    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let sent = ureq::post(url).content_type("application/json");
        let mut answer = sent.send(body.to_string()).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The sum of a metric over all label sets that contain each of `labels` (`cause="fenced"`); 0 where there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (found, with) = series.split_once('{').unwrap_or((series, ""));
                (found == name && labels.iter().all(|label| with.contains(label)))
                    .then(|| value.parse::<f64>().ok())?
            })
            .sum()
    }

    /// How many series of a metric have this label value.
    pub(crate) fn series(&self, name: &str, label: &str) -> usize {
        let text = self.get("/metrics").unwrap_or_default();
        let of_it = |line: &&str| line.starts_with(name) && line.contains(&format!("\"{label}\""));
        text.lines().filter(of_it).count()
    }

    /// What it has written to stderr.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// kill -9
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended = true;
    }

    /// Asks all to end, with SIGTERM, and waits for all of them; they must end well.
    pub(crate) fn stop_all(all: Vec<Self>) {
        all.iter().for_each(|process| process.signal("-TERM"));
        for mut process in all {
            let mut status = None;
            until("a process ends that was asked to", || {
                status = process.child.try_wait().unwrap();
                status.is_some()
            });
            process.ended = true;
            let status = status.unwrap();
            assert!(
                status.success(),
                "a process ended with {status}; it said:\n{}",
                process.said()
            );
        }
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let said = self.said();
            let tail: Vec<&str> = said.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("the end of what a process said:\n{}", tail.join("\n"));
        }
    }
}
