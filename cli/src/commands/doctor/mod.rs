//! `weir doctor`: says what is wrong with the Kafka cluster and the store, and the way out.
//!
//! Here things are asked; what the answers mean stands in `verdict`. Without `--write` nothing is written, except that
//! brokers note the transactional id that is opened. Exit code 1 when a check fails; warnings do not count.

mod verdict;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use topics::kafka::admin::plan::plan;
use topics::kafka::admin::probe::{Open, librdkafka};
use topics::kafka::admin::{Admin, Cluster};
use topics::{Disposition, KafkaConfig, LogError, catalog};

use super::topics::{kafka, wanted_topics};
use crate::args::{DoctorArgs, Global};
use crate::config::{self, Flat, Overrides};
use crate::exit::Exit;
use crate::output::{Output, Rows};
use verdict::{Check, Level};

const REACH: Duration = Duration::from_secs(15);
const WAIT: Duration = Duration::from_secs(15);
/// How long a read is given to be refused.
const READ: Duration = Duration::from_secs(2);

pub(super) fn doctor(
    args: &DoctorArgs,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let kafka = kafka(args.topics.brokers.as_ref(), global)?;
    let wanted = wanted_topics(args.topics.file.as_ref())?;
    let flags = args
        .store
        .iter()
        .map(|url| ("store.url", url.clone().into()));
    let config = config::load(
        global.config.as_ref(),
        Overrides::of_process(flags.collect()),
    )?;
    let mut checks = vec![Check::ok("librdkafka", librdkafka())];
    let asked = Asked {
        kafka: &kafka,
        write: args.write,
    };
    match asked.reach() {
        Err(check) => checks.push(check),
        Ok((admin, cluster)) => {
            checks.extend(asked.cluster(&admin, &cluster));
            let names: Vec<&str> = wanted.iter().map(|topic| &*topic.spec.name).collect();
            match admin.topics(&names) {
                Err(error) => checks.push(refused("topics", error)),
                Ok(current) => {
                    checks.push(verdict::topics(&plan(&wanted, &current)));
                    checks.extend(verdict::replicas(&current, cluster.brokers.len()));
                    let progress = |text: &str| output.progress().note(text);
                    checks.push(asked.open_transactions(&admin, &current, progress));
                    checks.push(readable(&admin, current.keys().map(String::as_str)));
                }
            }
            checks.extend(asked.rights(&admin));
        }
    }
    checks.push(match &config.store.url {
        None => Check::warn(
            "store",
            "not asked: no --store, WEIR_STORE__URL or [store] url".to_owned(),
            "name it to have it looked at",
        ),
        Some(url) => store(url.expose())?,
    });
    print(output, &checks)?;
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

struct Asked<'a> {
    kafka: &'a KafkaConfig,
    write: bool,
}

impl Asked<'_> {
    fn reach(&self) -> Result<(Admin, Cluster), Check> {
        let advice = "are these the brokers, do they run, and do the listeners that they advertise lead there? for TLS and SASL see [kafka.properties]";
        let failed = |error: LogError| match error.disposition() {
            Disposition::Retry => Check::fail(
                "brokers",
                format!("{}: {error}", self.kafka.brokers),
                advice,
            ),
            _ => Check::fail("brokers", error.to_string(), "see the message"),
        };
        let admin = Admin::new(self.kafka).map_err(failed)?;
        let cluster = admin.cluster(REACH).map_err(failed)?;
        Ok((admin, cluster))
    }

    fn cluster(&self, admin: &Admin, cluster: &Cluster) -> Vec<Check> {
        let mut checks = Vec::new();
        // asking each broker for its settings also connects to it, which tells its version
        let settings: Vec<_> = cluster
            .brokers
            .iter()
            .map(|broker| (broker.address.clone(), admin.broker_settings(broker.id)))
            .collect();
        // what the connections told is read by the next call
        let again = admin.cluster(REACH);
        let addresses: Vec<&str> = cluster.brokers.iter().map(|b| &*b.address).collect();
        checks.push(match again {
            Ok(_) => Check::ok(
                "brokers",
                format!(
                    "{} of cluster {}: {}; new enough (TxnOffsetCommit {}, at least 3 is needed)",
                    addresses.len(),
                    cluster.id.as_deref().unwrap_or("?"),
                    addresses.join(", "),
                    admin
                        .offset_commits()
                        .1
                        .map_or("?".to_owned(), |n| n.to_string())
                ),
            ),
            Err(error) => Check::fail("brokers", error.to_string(), "see the message"),
        });
        let mut read = Vec::new();
        for (address, found) in settings {
            match found {
                Ok(found) if !found.is_empty() => read.push((address, found)),
                Ok(_) => checks.push(Check::warn(
                    "broker settings",
                    format!("{address} does not tell its settings"),
                    "grant DESCRIBE_CONFIGS on the cluster",
                )),
                Err(error) => checks.push(Check::fail(
                    "broker settings",
                    format!("{address}: {error}"),
                    "can this machine reach every broker by the address that it advertises?",
                )),
            }
        }
        checks.extend(verdict::brokers(&read, self.kafka.timeouts));
        checks
    }

    fn rights(&self, admin: &Admin) -> Vec<Check> {
        let mut checks = Vec::new();
        checks.push(match admin.transactional(WAIT) {
            Ok(()) => Check::ok("transactional producer", "can be opened".to_owned()),
            Err(error) => refused("transactional producer", error),
        });
        let group = catalog::GROUP_PROCESSORS;
        checks.push(match admin.group(group, WAIT) {
            Ok(found) => verdict::group(group, &found),
            Err(error) => refused("group", error),
        });
        checks.push(if self.write {
            match admin.write(WAIT) {
                Ok(clocks) => verdict::clocks(clocks),
                Err(error) => refused("write", error),
            }
        } else {
            Check::ok("write", "not tried; with --write a topic is made, written to in a transaction, read and removed, which also compares the clocks".to_owned())
        });
        checks
    }

    /// Looks twice where something is open: what is still open after the time-out hangs.
    fn open_transactions(
        &self,
        admin: &Admin,
        current: &std::collections::BTreeMap<String, topics::kafka::admin::plan::Current>,
        say: impl Fn(&str),
    ) -> Check {
        let look = || -> Result<Vec<Open>, LogError> {
            let mut all = Vec::new();
            for (topic, found) in current {
                all.extend(admin.open_transactions(topic, found.partitions, WAIT)?);
            }
            Ok(all)
        };
        let first = match look() {
            Ok(first) => first,
            Err(error) => return refused("open transactions", error),
        };
        if first.is_empty() {
            return verdict::hanging(&first, &[]);
        }
        let timeout = self.kafka.timeouts.transaction + Duration::from_secs(2);
        say(&format!(
            "{} partitions have an open transaction; looking again in {}",
            first.len(),
            Flat(timeout)
        ));
        std::thread::sleep(timeout);
        match look() {
            Ok(second) => verdict::hanging(&first, &second),
            Err(error) => refused("open transactions", error),
        }
    }
}

fn readable<'a>(admin: &Admin, names: impl Iterator<Item = &'a str>) -> Check {
    for name in names {
        if let Err(error) = admin.readable(name, READ) {
            return refused("reading", error);
        }
    }
    Check::ok("reading", "every topic can be read".to_owned())
}

fn refused(check: &'static str, error: LogError) -> Check {
    Check::fail(check, error.to_string(), "see the message")
}

/// Opens it as a role does (which brings an older format up to date) and asks it something.
fn store(url: &str) -> anyhow::Result<Check> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let place = crate::serve::place(url);
    let begun = Instant::now();
    let asked = runtime.block_on(async {
        let store = crate::serve::open(url).await.map_err(|e| e.to_string())?;
        let answered = store
            .changes_after(i64::MAX, 1)
            .await
            .map(drop)
            .map_err(|e| e.to_string());
        store.close().await;
        answered
    });
    Ok(match asked {
        Ok(()) => Check::ok(
            "store",
            format!(
                "{place}: its format is known, it answers in {:?}",
                begun.elapsed()
            ),
        ),
        Err(error) => Check::fail(
            "store",
            format!("{place}: {error}"),
            "is it there, and are user, password and database right?",
        ),
    })
}

fn print(output: &mut Output, checks: &[Check]) -> std::io::Result<()> {
    let value = Value::Array(
        checks
            .iter()
            .map(|check| json!({"check": check.name, "status": check.level.name(), "found": check.found, "advice": check.advice}))
            .collect(),
    );
    output.print(&value, |value| Rows {
        header: &["status", "check", "found", "advice"],
        rows: value
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| {
                ["status", "check", "found", "advice"]
                    .map(|column| row[column].as_str().unwrap_or_default().to_owned())
                    .to_vec()
            })
            .collect(),
    })
}
