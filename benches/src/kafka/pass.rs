//! One pass: a process works its way through a loaded topic while the bench counts what it has committed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::cluster::Counter;
use crate::process::{self, Used};

const LOOK: Duration = Duration::from_millis(100);
/// Reaching it is a failure, also on a machine with other work.
const STALLED: Duration = Duration::from_secs(90);
/// The steadiness of a pass is told by so many parts of it.
const PARTS: usize = 5;

/// A process that ends when its standard input does, or when this is dropped.
pub(super) struct Running {
    child: Child,
    /// Dropped first: it is how the process hears that it is to end.
    stdin: Option<ChildStdin>,
    said: PathBuf,
}

impl Running {
    /// `ready`: the line on standard output to wait for.
    pub(super) fn start(mut command: Command, ready: Option<&str>, folder: &Path) -> Result<Self> {
        let said = folder.join("said");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said)?)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let running = Self { child, stdin, said };
        let stdout = stdout.context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        if let Some(ready) = ready {
            // ends with the process at the latest
            if !lines
                .by_ref()
                .map_while(Result::ok)
                .any(|line| line == ready)
            {
                bail!(
                    "{} ended before it was ready:\n{}",
                    command.get_program().display(),
                    running.said()
                );
            }
        }
        // so that it never waits for somebody to read
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(running)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said on standard error.
    fn said(&self) -> String {
        let text = std::fs::read(&self.said).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// What it complained of so far, without when.
    pub(super) fn complaints(&self) -> Vec<String> {
        let text = std::fs::read(&self.said).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let complaints = text.lines().filter_map(|line| {
            let at = line.find(" WARN ").or_else(|| line.find("ERROR "))?;
            Some(line[at..].trim().to_owned())
        });
        complaints.collect()
    }

    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the process that is measured has ended with {status}:\n{}",
                self.said()
            );
        }
        Ok(())
    }

    /// Must end well.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        let deadline = Instant::now() + STALLED;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "the process that was measured ended with {status}:\n{}",
                    self.said()
                );
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the process that was measured does not end:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a pass came to, between the end of its warm-up and its last record.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) per_s: f64,
    pub(super) cpu_us: f64,
    pub(super) rss_mib: f64,
    /// Of the slowest and the fastest of its parts.
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    /// µs of CPU per record by thread, the largest first.
    pub(super) threads: String,
}

struct Look {
    at: Instant,
    done: u64,
    used: Used,
}

/// From `warm` committed inputs to `until`, and then to `all`.
pub(super) fn measure(
    running: &mut Running,
    counter: &Counter,
    what: &str,
    warm: u64,
    until: u64,
    all: u64,
) -> Result<Passed> {
    let mut looks: Vec<Look> = Vec::new();
    let (mut rss_mib, mut last, mut moved) = (0_f64, 0, Instant::now());
    let (mut begun, mut ended) = (None, None);
    let mut line = Line::new(what);
    loop {
        running.check()?;
        // a group that is new to the broker has no coordinator for a moment
        let done = match counter.committed() {
            Ok(done) => done,
            Err(error) if moved.elapsed() > STALLED => return Err(error),
            Err(_) => last,
        };
        if done > last {
            (last, moved) = (done, Instant::now());
        }
        ensure!(
            moved.elapsed() < STALLED,
            "{what} stopped at {done} of {all} records:\n{}",
            running.said()
        );
        if done >= warm && ended.is_none() {
            looks.push(Look {
                at: Instant::now(),
                done,
                used: process::used(running.pid())?,
            });
            rss_mib = rss_mib.max(process::status_mib(running.pid(), "VmRSS")?);
            begun = begun.or(Some(process::threads(running.pid())?));
            if done >= until {
                ended = Some(process::threads(running.pid())?);
            }
        }
        line.show(done, all);
        if done >= all {
            ensure!(done == all, "{what}: {done} of {all} inputs are committed");
            break;
        }
        std::thread::sleep(LOOK);
    }
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
        bail!("{what}: no look at the processor");
    };
    ensure!(
        last.done > first.done && looks.len() > PARTS,
        "{what}: the pass was too short"
    );
    let records = (last.done - first.done) as f64;
    let rate = |a: &Look, b: &Look| (b.done - a.done) as f64 / (b.at - a.at).as_secs_f64();
    let marks: Vec<&Look> = (0..=PARTS)
        .map(|part| &looks[part * (looks.len() - 1) / PARTS])
        .collect();
    let parts: Vec<f64> = marks
        .windows(2)
        .map(|pair| rate(pair[0], pair[1]))
        .collect();
    let (begun, ended) = (begun.unwrap_or_default(), ended.unwrap_or_default());
    let mut threads: Vec<(f64, &String)> = ended
        .iter()
        .map(|(name, used)| {
            (
                used.since(begun.get(name).copied().unwrap_or_default())
                    .sum()
                    * 1e6
                    / records,
                name,
            )
        })
        .filter(|(us, _)| *us >= 0.05)
        .collect();
    threads.sort_by(|a, b| b.0.total_cmp(&a.0));
    let threads: Vec<String> = threads
        .iter()
        .take(14)
        .map(|(us, name)| format!("{name} {us:.1}"))
        .collect();
    let passed = Passed {
        per_s: rate(first, last),
        cpu_us: last.used.since(first.used).sum() * 1e6 / records,
        rss_mib,
        slowest: parts.iter().copied().fold(f64::INFINITY, f64::min),
        fastest: parts.iter().copied().fold(0.0, f64::max),
        threads: threads.join(", "),
    };
    line.end(&passed);
    Ok(passed)
}

/// The progress on a terminal; elsewhere one line when a pass has ended.
struct Line<'a> {
    what: &'a str,
    terminal: bool,
    shown: Instant,
}

impl<'a> Line<'a> {
    fn new(what: &'a str) -> Self {
        Self {
            what,
            terminal: std::io::stderr().is_terminal(),
            shown: Instant::now(),
        }
    }

    fn show(&mut self, done: u64, all: u64) {
        if self.terminal && self.shown.elapsed() > Duration::from_millis(500) {
            self.shown = Instant::now();
            // whoever closed stderr does not want it
            write!(
                std::io::stderr(),
                "\r  {}: {done} of {all} \x1b[K",
                self.what
            )
            .ok();
        }
    }

    fn end(&self, passed: &Passed) {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        crate::say(&format!(
            "{start}  {}: {:.0}/s ({:.0} to {:.0}), {:.1} µs, {:.0} MiB",
            self.what, passed.per_s, passed.slowest, passed.fastest, passed.cpu_us, passed.rss_mib
        ));
    }
}
