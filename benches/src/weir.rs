//! A `weir dev` of the bench's own, seen from outside: when it is ready, what it weighs, which threads work.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) const SECRET: &str = "only for the bench";
/// For a slow machine under load; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of `/proc/PID/stat`: always 100 a second on Linux.
const TICK_S: f64 = 0.01;

pub(crate) struct Weir {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the process to "weir dev is ready".
    pub(crate) ready_after: Duration,
    /// What it said on stderr, drained by a thread.
    said: Receiver<String>,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl Used {
    pub(crate) fn sum(self) -> f64 {
        self.user_s + self.system_s
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
        }
    }
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
            .with_context(|| format!("the kernel does not tell {name}"))?;
        Ok(kib / 1024.0)
    }

    /// What the process has used, threads that have ended included.
    pub(crate) fn used(&self) -> Result<Used> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        Ok(stat(&text).context("/proc/PID/stat is not as expected")?.1)
    }

    /// What its threads have used, by their names; of several with one name the second has `.2` behind it, and so on in
    /// the order of their start.
    pub(crate) fn threads(&self) -> Result<BTreeMap<String, Used>> {
        let folder = Path::new("/proc")
            .join(self.child.id().to_string())
            .join("task");
        let mut ids: Vec<u32> = std::fs::read_dir(&folder)?
            .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        let mut counts = BTreeMap::<String, u32>::new();
        let mut threads = BTreeMap::new();
        for id in ids {
            // a thread may end while the list is read
            let Ok(text) = std::fs::read_to_string(folder.join(id.to_string()).join("stat")) else {
                continue;
            };
            let (name, used) = stat(&text).context("/proc/PID/task/TID/stat is not as expected")?;
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            let number = if *count == 1 {
                String::new()
            } else {
                format!(".{count}")
            };
            threads.insert(name + &number, used);
        }
        Ok(threads)
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

/// Name and processor time out of a `stat` file. The name may hold anything, blanks and brackets too.
fn stat(text: &str) -> Option<(String, Used)> {
    let (name, rest) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text[rest + 1..].split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? * TICK_S);
    let used = Used {
        user_s: seconds()?,
        system_s: seconds()?,
    };
    Some((text[name + 1..rest].to_owned(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_file_is_read_past_a_strange_name() {
        let text = "7 (a) b() S 1 7 7 0 -1 4194560 2 0 0 0 150 25 0 0 20 0 1 0 9 1 1";
        let (name, used) = stat(text).unwrap();
        assert_eq!(name, "a) b(");
        assert_eq!((used.user_s, used.system_s), (1.5, 0.25));
        assert!(stat("7 (a").is_none());
    }
}
