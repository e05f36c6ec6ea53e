//! Kafka clients of other kinds, for tests that look at Weir from the outside: Python with `confluent-kafka`, `kcat`, and
//! Kafka Streams.
//!
//! All lie below target/services once they were asked for, and nothing of them is installed on the machine. What cannot be
//! had is an error that says how it can: no test is skipped for it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::folder;
use super::process::{locked, succeed};
use super::{kafka, maven};

/// From PyPI, with what its Avro (de)serialisers need.
const PACKAGE: &str = "confluent-kafka[avro]==2.16.1";
const PYTHON: &str = "install Python 3 with venv (package python3-venv), and let pip reach PyPI";
/// kcat and what it needs that not every machine has.
const DEBS: [&str; 3] = ["kcat", "librdkafka1", "libyajl2"];
const KCAT: &str = "install kcat (package kcat)";

/// The interpreter of a virtual environment that has `confluent_kafka`.
pub fn python() -> Result<PathBuf> {
    let home = folder().join("python");
    let _lock = locked(&home)?;
    let name = PACKAGE.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let venv = home.join(name);
    // made where it stays: its programs know their place
    let whole = venv.join("whole");
    if !whole.exists() {
        if venv.exists() {
            std::fs::remove_dir_all(&venv)
                .with_context(|| format!("removing {}", venv.display()))?;
        }
        let mut make = Command::new("python3");
        succeed(make.args(["-m", "venv"]).arg(&venv), PYTHON).context(PYTHON)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
        pip.args(["--disable-pip-version-check", PACKAGE]);
        succeed(&mut pip, PYTHON).context(PYTHON)?;
        std::fs::write(&whole, PACKAGE)?;
    }
    Ok(venv.join("bin/python"))
}

/// `kcat`, to be given its arguments: the machine's, or Debian's package unpacked.
pub fn kcat() -> Result<Command> {
    if Command::new("kcat").arg("-V").output().is_ok() {
        return Ok(Command::new("kcat"));
    }
    let home = folder().join("kcat");
    let _lock = locked(&home)?;
    let root = home.join("root");
    if !root.exists() {
        let debs = home.join("debs");
        std::fs::create_dir_all(&debs)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "-q"]).args(DEBS);
        succeed(download.current_dir(&debs), KCAT).context(KCAT)?;
        // under another name until it is whole
        let partial = home.join("partial");
        for deb in std::fs::read_dir(&debs)? {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(deb?.path()).arg(&partial);
            succeed(&mut unpack, KCAT).context(KCAT)?;
        }
        std::fs::rename(&partial, &root)?;
    }
    let mut kcat = Command::new(root.join("usr/bin/kcat"));
    kcat.env("LD_LIBRARY_PATH", libraries(&root.join("usr/lib"))?);
    Ok(kcat)
}

/// The folder of the libraries, which is named after the machine's kind.
fn libraries(lib: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(lib).with_context(|| format!("reading {}", lib.display()))? {
        let folder = entry?.path();
        if folder.join("librdkafka.so.1").exists() {
            return Ok(folder);
        }
    }
    ensure!(lib.join("librdkafka.so.1").exists(), "{KCAT}");
    Ok(lib.to_path_buf())
}

/// Runs `xtask/strangers/NAME.py` with the interpreter of [`python`] and this input; gives what it said, a line each.
pub fn script(name: &str, arguments: &[&str], input: &str) -> Result<Vec<String>> {
    let path = crate::root().join(format!("xtask/strangers/{name}.py"));
    let mut python = Command::new(python()?);
    // no compiled files in the checkout
    python.arg("-B").arg(&path).args(arguments);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", path.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // one that ended early says why below
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}.py failed:\n{said}");
    let said = String::from_utf8(output.stdout).context("a script says UTF-8")?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Kafka Streams, copying a topic to another exactly once until this is dropped.
pub struct Streams(Child);

impl Streams {
    /// `folder`: for what it keeps to itself.
    pub fn start(
        brokers: &str,
        application: &str,
        (input, output): (&str, &str),
        folder: &Path,
    ) -> Result<Self> {
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.args(["-Dlog4j2.level=OFF", "-cp"]);
        java.arg(format!(
            "{}:{}",
            kafka::class_path()?,
            streams_jar()?.display()
        ));
        java.arg(crate::root().join("xtask/strangers/Streams.java"));
        java.args([brokers, application, input, output]).arg(folder);
        java.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = java.spawn();
        Ok(Self(
            child.context("running java; install a JDK 17 or newer")?,
        ))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Alone: what its stateful half needs (RocksDB) is not called for.
fn streams_jar() -> Result<PathBuf> {
    let home = folder().join("kafka-streams");
    let _lock = locked(&home)?;
    let name = format!("kafka-streams-{}.jar", kafka::VERSION);
    let jar = home.join(&name);
    if jar.exists() {
        return Ok(jar);
    }
    let artifact = format!("org.apache.kafka:kafka-streams:{}:jar", kafka::VERSION);
    maven::copy(&artifact, &home, &name)
}
