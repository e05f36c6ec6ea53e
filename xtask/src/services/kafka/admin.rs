//! Who a secured cluster knows and what they may do, changed while it runs: a small Java program on Kafka's own admin
//! client, started once and told what to do line by line.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::node::class_path;
use super::security::Security;

/// What a right is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// All topics whose names begin so.
    Topics(&'a str),
    Group(&'a str),
    TransactionalIds(&'a str),
    Cluster,
}

impl Resource<'_> {
    /// Kind, name, pattern, as Kafka names them.
    fn told(&self) -> [&str; 3] {
        match self {
            Self::Topic(name) => ["TOPIC", name, "LITERAL"],
            Self::Topics(prefix) => ["TOPIC", prefix, "PREFIXED"],
            Self::Group(name) => ["GROUP", name, "LITERAL"],
            Self::TransactionalIds(prefix) => ["TRANSACTIONAL_ID", prefix, "PREFIXED"],
            Self::Cluster => ["CLUSTER", "kafka-cluster", "LITERAL"],
        }
    }
}

/// Returns from each call once the brokers go by it.
pub struct Admin {
    child: Child,
    /// Dropped before the program is waited for.
    tell: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
}

impl Admin {
    pub(super) fn start(brokers: &str, security: &Security) -> Result<Self> {
        let program = crate::root().join("xtask/checker/Admin.java");
        let mut java = Command::new("java");
        java.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.args(["-Dlog4j2.level=OFF", "-cp", &class_path()?]);
        java.arg(program).arg(brokers).arg(security.of_tools());
        java.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = java
            .spawn()
            .context("running java; install a JDK 17 or newer")?;
        let tell = child.stdin.take();
        let said = child.stdout.take().context("stdout is piped")?;
        Ok(Self {
            child,
            tell,
            said: BufReader::new(said).lines(),
        })
    }

    /// Lets a user in by SCRAM, or gives it another password.
    pub fn user(&mut self, name: &str, password: &str) -> Result<()> {
        self.ask(&["user", name, password])
    }

    /// Allows the user these operations, by Kafka's names (`READ`, `WRITE`, …), from wherever it comes.
    pub fn allow(&mut self, user: &str, resource: Resource<'_>, operations: &[&str]) -> Result<()> {
        self.right("allow", user, resource, operations)
    }

    /// Takes back what `allow` gave.
    pub fn revoke(
        &mut self,
        user: &str,
        resource: Resource<'_>,
        operations: &[&str],
    ) -> Result<()> {
        self.right("revoke", user, resource, operations)
    }

    fn right(
        &mut self,
        what: &str,
        user: &str,
        resource: Resource<'_>,
        operations: &[&str],
    ) -> Result<()> {
        let [kind, name, pattern] = resource.told();
        self.ask(&[what, user, kind, name, pattern, &operations.join(",")])
    }

    fn ask(&mut self, words: &[&str]) -> Result<()> {
        let line = words.join("\t");
        ensure!(
            !line.contains('\n'),
            "what the admin is told fits on a line"
        );
        let tell = self.tell.as_mut().context("the admin runs")?;
        writeln!(tell, "{line}").context("telling the admin")?;
        match self.said.next().transpose()?.as_deref() {
            Some("ok") => Ok(()),
            Some(said) => bail!("kafka's admin could not: {said}"),
            None => bail!("kafka's admin has ended"),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // it ends with its stdin, or now
        drop(self.tell.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
