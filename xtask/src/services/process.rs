//! Processes that outlive us, and those that must not: who they are, whether they run, how they end.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A process, told apart from a later one with the same number by when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pid: u32,
    started: String,
}

impl Noted {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} ended at once"))?;
        Ok(Self { pid, started })
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.to_owned(),
        })
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, format!("{} {}\n", self.pid, self.started))
            .with_context(|| format!("writing {}", path.display()))
    }

    pub(super) fn runs(&self) -> bool {
        started(self.pid).is_some_and(|now| now == self.started)
    }

    /// Asks it to end, without waiting.
    pub(super) fn ask(&self) -> Result<()> {
        self.signal("-TERM")
    }

    /// Sends a signal by its name, as `kill` takes it, if it still runs.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        if !self.runs() {
            return Ok(());
        }
        let sent = Command::new("kill")
            .arg(name)
            .arg(self.pid.to_string())
            .status()
            .context("running kill")?;
        ensure!(
            sent.success() || !self.runs(),
            "kill {name} {} failed",
            self.pid
        );
        Ok(())
    }

    /// Asks it to end, and ends it if it does not within `patience`.
    pub(super) fn stop(&self, patience: Duration) -> Result<()> {
        for signal in ["-TERM", "-KILL"] {
            let deadline = Instant::now() + patience;
            self.signal(signal)?;
            while self.runs() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        ensure!(!self.runs(), "process {} does not end", self.pid);
        Ok(())
    }
}

/// Starts a process that outlives us, with its `log` and `pid` in a folder.
pub(super) fn detach(command: &[String], folder: &Path) -> Result<Noted> {
    let log = File::create(folder.join("log"))?;
    let mut process = Command::new(&command[0]);
    process
        .args(&command[1..])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // its own process group: Ctrl-C here is not meant for it
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    let started = process
        .spawn()
        .with_context(|| format!("running {}", command[0]))?;
    let noted = Noted::of(started.id())?;
    noted.write(&folder.join("pid"))?;
    Ok(noted)
}

/// When a process started, in the kernel's ticks; none if it does not run (a zombie does not).
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in brackets may hold anything, also brackets and spaces
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X")
        .then(|| fields.nth(18))
        .flatten()
        .map(str::to_owned)
}

/// As many ports as asked for that nobody listens on just now.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Waits until the log says that the process is ready and its port takes connections.
pub(super) fn await_ready(
    process: &Noted,
    log: &Path,
    said: &str,
    port: u16,
    patience: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.contains(said) && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        let why = if process.runs() {
            "was not ready in time"
        } else {
            "ended before it was ready"
        };
        if !process.runs() || Instant::now() > deadline {
            let tail: Vec<&str> = text.lines().rev().take(20).collect();
            bail!(
                "it {why}; the end of {}:\n{}",
                log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Held while something in a folder is made that only one process shall make.
pub(super) fn locked(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(lock)
}

/// Runs a command to its end; its output is shown only if it failed.
pub fn succeed(command: &mut Command, need: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {name}; {need}"))?;
    ensure!(
        output.status.success(),
        "{name} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
