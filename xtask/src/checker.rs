//! A second pair of eyes on a cluster: a small Java program on Kafka's own client, which shares no code with ours.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::services::kafka;

/// A committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A partition on which a transaction is open: readers of committed records do not get beyond `stable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub topic: String,
    pub partition: u32,
    pub stable: i64,
    pub end: i64,
}

/// Reads topics from their starts to their ends, and hands over every committed record, partition by partition in order.
pub fn read(
    brokers: &str,
    topics: &[&str],
    mut take: impl FnMut(Record) -> Result<()>,
) -> Result<Vec<Open>> {
    let mut child = java(&["read", brokers, &topics.join(",")], Stdio::null())?;
    let mut open = Vec::new();
    for line in lines(&mut child)? {
        match parse(&line?)? {
            Line::Record(record) => take(record)?,
            Line::Open(found) => open.push(found),
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "the checker ended with {status}");
    Ok(open)
}

/// Hands over committed records as they come, on a thread of its own, until this is dropped.
pub struct Follower {
    child: Child,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Follower {
    pub fn start(
        brokers: &str,
        topics: &[&str],
        mut take: impl FnMut(Record) + Send + 'static,
    ) -> Result<Self> {
        let mut child = java(&["follow", brokers, &topics.join(",")], Stdio::piped())?;
        let lines = lines(&mut child)?;
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(Line::Record(record)) = parse(&line) {
                    take(record);
                }
            }
        });
        Ok(Self {
            child,
            reading: Some(reading),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        end(&mut self.child);
        if let Some(reading) = self.reading.take() {
            reading.join().ok();
        }
    }
}

/// What a stranger does with a record in a transaction.
#[derive(Clone, Debug)]
pub struct Stranger<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub transactional_id: &'a str,
    pub timeout_ms: u32,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Stranger<'_> {
    /// Writes the record in a transaction and aborts it.
    pub fn abort(&self, brokers: &str) -> Result<()> {
        let mut child = self.start("abort", brokers)?;
        let said: Vec<String> = lines(&mut child)?.collect::<Result<_, _>>()?;
        ensure!(
            child.wait()?.success() && said == ["aborted"],
            "the stranger's transaction could not be aborted"
        );
        Ok(())
    }

    /// Writes the record in a transaction and dies; the transaction stays open until its time-out.
    pub fn die(&self, brokers: &str) -> Result<()> {
        let mut child = self.start("open", brokers)?;
        let said = lines(&mut child)?.next().transpose()?;
        end(&mut child);
        ensure!(
            said.as_deref() == Some("open"),
            "the stranger's transaction could not be opened"
        );
        Ok(())
    }

    fn start(&self, mode: &str, brokers: &str) -> Result<Child> {
        java(
            &[
                mode,
                brokers,
                self.topic,
                &self.partition.to_string(),
                self.transactional_id,
                &self.timeout_ms.to_string(),
                &hex::encode(self.key),
                &hex::encode(self.value),
            ],
            Stdio::piped(),
        )
    }
}

/// kill -9
fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

fn program() -> PathBuf {
    crate::root().join("xtask/checker/Checker.java")
}

fn java(arguments: &[&str], stdin: Stdio) -> Result<Child> {
    let mut java = Command::new("java");
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.args(["-Dlog4j2.level=OFF", "-cp", &kafka::class_path()?]);
    java.arg(program()).args(arguments);
    java.stdin(stdin).stdout(Stdio::piped());
    java.spawn()
        .context("running java; install a JDK 17 or newer")
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

fn lines(child: &mut Child) -> Result<Lines> {
    let out = child.stdout.take().context("stdout is piped")?;
    Ok(BufReader::with_capacity(1 << 16, out).lines())
}

enum Line {
    Record(Record),
    Open(Open),
}

fn parse(line: &str) -> Result<Line> {
    let fields: Vec<&str> = line.split('\t').collect();
    let bytes = |text: &str| -> Result<Option<Vec<u8>>> {
        match text {
            "-" => Ok(None),
            text => Ok(Some(hex::decode(text)?)),
        }
    };
    match fields[..] {
        ["open", topic, partition, stable, end] => Ok(Line::Open(Open {
            topic: topic.to_owned(),
            partition: partition.parse()?,
            stable: stable.parse()?,
            end: end.parse()?,
        })),
        [topic, partition, offset, key, value] => Ok(Line::Record(Record {
            topic: topic.to_owned(),
            partition: partition.parse()?,
            offset: offset.parse()?,
            key: bytes(key)?,
            value: bytes(value)?,
        })),
        _ => bail!("the checker said what nobody understands: {line}"),
    }
}
