//! A `weir dev` of the test's own, and the `weir` commands against it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const SECRET: &str = "it's only a test";
/// Long enough for a slow machine under load; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn binary() -> PathBuf {
    std::env::var_os("WEIR_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_weir")), PathBuf::from)
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// A module of `processor/tests/guests`.
pub(crate) fn guest(name: &str) -> PathBuf {
    root()
        .join("processor/tests/guests")
        .join(format!("{name}.wasm"))
}

pub(crate) struct Weir {
    child: Child,
    pub port: u16,
    /// What it said on stderr so far, drained by a thread.
    said: mpsc::Receiver<String>,
}

pub(crate) struct Start<'a> {
    pub binary: PathBuf,
    pub data: &'a Path,
    pub port: u16,
    pub graphs: &'a [PathBuf],
    pub env: &'a [(&'a str, &'a str)],
}

impl<'a> Start<'a> {
    pub(crate) fn new(data: &'a Path, graphs: &'a [PathBuf]) -> Self {
        Self {
            binary: binary(),
            data,
            port: free_port(),
            graphs,
            env: &[],
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Weir {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(start: &Start<'_>) -> Self {
        Self::try_start(start).unwrap_or_else(|said| panic!("weir dev did not start:\n{said}"))
    }

    pub(crate) fn try_start(start: &Start<'_>) -> Result<Self, String> {
        let mut command = Command::new(&start.binary);
        command
            .arg("dev")
            .args(start.graphs)
            .arg("--data")
            .arg(start.data)
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", start.port))
            .env("GITHUB_WEBHOOK_SECRET", SECRET)
            .envs(start.env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");
        let stderr = child.stderr.take().unwrap();
        let (tell, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut heard = String::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    heard.push_str(&line);
                    heard.push('\n');
                    if line.contains("weir dev is ready") {
                        return Ok(Self {
                            child,
                            port: start.port,
                            said,
                        });
                    }
                }
                Err(e) => {
                    child.kill().ok();
                    child.wait().ok();
                    return Err(format!("{heard}({e})"));
                }
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, as Ctrl-C does; must end well.
    pub(crate) fn stop(mut self) -> String {
        let killed = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said: String = self.said.iter().map(|line| line + "\n").collect();
                assert!(status.success(), "weir dev ended with {status}:\n{said}");
                return said;
            }
            assert!(Instant::now() < deadline, "weir dev did not stop");
            std::thread::yield_now();
        }
    }

    /// `weir ARGS` against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&self.url(), args)
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            for line in self.said.try_iter() {
                eprintln!("weir: {line}");
            }
        }
    }
}

pub(crate) struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    /// One JSON value a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

pub(crate) fn run(url: &str, args: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(binary())
        .args(args)
        .env("WEIR_URL", url)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        out: text(stdout),
        err: text(stderr),
    }
}

/// Waits until the condition holds; says what it waited for when it does not.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A file in a folder, with this text.
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
