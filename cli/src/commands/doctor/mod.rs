//! `weir doctor`: says what is wrong with the Kafka cluster, the store and the registry, and the way out.
//!
//! Here things are asked; what the answers mean stands in `verdict`. Without `--write` nothing is written, except that
//! brokers note the transactional id that is opened. Exit code 1 when a check fails; warnings do not count.

mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use topics::kafka::admin::granted::{Granted, Operation};
use topics::kafka::admin::plan::{Current, plan};
use topics::kafka::admin::probe::librdkafka;
use topics::kafka::admin::{Admin, Broker, Cluster};
use topics::{Disposition, KafkaConfig, LogError, Registry, RegistryConfig, catalog};

use super::rights::{Resource, Rights, User, command, missing, needed, transactional_ids};
use super::topics::{kafka, principal, print_columns, unreachable, wanted_topics};
use crate::args::{DoctorArgs, Global, roles_of};
use crate::config::{self, Flat, Overrides};
use crate::exit::Exit;
use crate::output::Output;
use crate::roles::{Destinations, Roles};
use verdict::{Check, Level, Standing};

const REACH: Duration = Duration::from_secs(15);
const WAIT: Duration = Duration::from_secs(15);
/// How long a broker is given to answer for itself.
const ANSWER: Duration = Duration::from_secs(5);
/// How long reading is given to be refused.
const READ: Duration = Duration::from_secs(5);

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
    let roles = roles_of(&args.roles);
    let destinations = Destinations::new(&config.destinations)?;
    let users = roles.iter().copied().map(User::Role);
    let asked = Asked {
        kafka: &kafka,
        needed: needed(&catalog::topics(), &destinations.sinks(), users),
        roles,
        write: args.write,
    };
    match asked.reach() {
        Err(check) => checks.push(check),
        Ok((admin, cluster)) => {
            let (found, silent) = asked.cluster(&admin, &cluster);
            checks.extend(found);
            let names: Vec<&str> = wanted.iter().map(|topic| &*topic.spec.name).collect();
            let answers = |broker: &&Broker| !silent.contains(&broker.id);
            let broker = cluster.brokers.iter().find(answers).map(|broker| broker.id);
            match admin.topics_by(&names, broker) {
                Err(error) => checks.push(refused("topics", error)),
                Ok(current) => {
                    checks.push(verdict::topics(&plan(&wanted, &current)));
                    checks.extend(verdict::replicas(&current, cluster.brokers.len()));
                    checks.extend(match admin.places(&names, WAIT) {
                        Ok(places) => verdict::standing(
                            &current,
                            &places,
                            &Standing {
                                configured: &kafka.brokers,
                                listed: &cluster.brokers,
                                silent: &silent,
                            },
                        ),
                        Err(error) => vec![refused("brokers", error)],
                    });
                    let progress = |text: &str| output.progress().note(text);
                    if silent.is_empty() {
                        checks.push(asked.open_transactions(&admin, &current, progress));
                    }
                }
            }
            // each of these may be for the broker that does not answer, and would wait for it
            if silent.is_empty() {
                match asked.may(&admin) {
                    Ok(may) => {
                        checks.extend(asked.rights(&may));
                        checks.push(readable(&admin, &asked.readable(&may)));
                        checks.extend(asked.group(&admin, &may));
                    }
                    Err(error) => checks.push(refused("rights", error)),
                }
                checks.extend(asked.transactional(&admin));
                checks.push(asked.written(&admin));
            } else {
                checks.push(Check::warn(
                    "rights",
                    "not looked at, nor transactions and groups, while a broker does not answer"
                        .to_owned(),
                    "ask again when it does",
                ));
            }
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
    if let Some(settings) = config.registry.client() {
        checks.push(registry(settings)?);
    }
    print(output, &checks)?;
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

struct Asked<'a> {
    kafka: &'a KafkaConfig,
    /// Whose rights are looked at.
    roles: Roles,
    needed: Rights,
    write: bool,
}

/// What this client may do, as the brokers say.
struct May {
    topics: Granted,
    groups: Granted,
}

impl Asked<'_> {
    fn reach(&self) -> Result<(Admin, Cluster), Check> {
        let advice = "are these the brokers, do they run, and do the listeners that they advertise lead there? for TLS and SASL see [kafka.properties]";
        let failed = |error: LogError| match error.disposition() {
            Disposition::Retry => Check::fail(
                "brokers",
                unreachable(&self.kafka.brokers, error).message,
                advice,
            ),
            _ => Check::fail("brokers", error.to_string(), "see the message"),
        };
        let admin = Admin::new(self.kafka).map_err(failed)?;
        let cluster = admin.cluster(REACH).map_err(failed)?;
        Ok((admin, cluster))
    }

    /// What is to be said of the brokers, and which of those that the cluster names do not answer.
    fn cluster(&self, admin: &Admin, cluster: &Cluster) -> (Vec<Check>, BTreeSet<i32>) {
        let mut checks = Vec::new();
        // asking each broker for its settings also connects to it, which tells its version
        let settings: Vec<_> = std::thread::scope(|scope| {
            let ask = |broker: &Broker| {
                let broker = broker.clone();
                scope.spawn(move || {
                    let found = admin.broker_settings(broker.id, ANSWER);
                    (broker, found)
                })
            };
            let asked: Vec<_> = cluster.brokers.iter().map(ask).collect();
            asked
                .into_iter()
                .filter_map(|asked| asked.join().ok())
                .collect()
        });
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
        let (mut read, mut silent) = (Vec::new(), BTreeSet::new());
        for (Broker { id, address }, found) in settings {
            match found {
                Ok(found) if !found.is_empty() => read.push((address, found)),
                Ok(_) => checks.push(Check::warn(
                    "broker settings",
                    format!("{address} does not tell its settings: DESCRIBE_CONFIGS is missing on the cluster"),
                    self.grant(&Resource::Cluster, &[Operation::DescribeConfigs]),
                )),
                Err(error) => {
                    tracing::debug!(%error, address, "a broker does not answer");
                    silent.insert(id);
                }
            }
        }
        checks.extend(verdict::brokers(&read, self.kafka.timeouts));
        (checks, silent)
    }

    fn may(&self, admin: &Admin) -> Result<May, LogError> {
        let (mut topics, mut groups) = (Vec::new(), Vec::new());
        for resource in self.needed.keys() {
            match resource {
                Resource::Topic(name) => topics.push(&**name),
                Resource::Group(name) => groups.push(&**name),
                _ => {}
            }
        }
        Ok(May {
            topics: admin.may_with_topics(&topics, WAIT)?,
            groups: admin.may_with_groups(&groups, WAIT)?,
        })
    }

    fn rights(&self, may: &May) -> Vec<Check> {
        let names: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        let missing = missing(&self.needed, &may.topics, &may.groups);
        verdict::rights(&names.join(", "), &missing, |resource, operations| {
            self.grant(resource, operations)
        })
    }

    /// The command that allows it to these clients.
    fn grant(&self, resource: &Resource, operations: &[Operation]) -> String {
        let user = principal(self.kafka).unwrap_or("USER");
        command(&self.kafka.brokers, user, resource, operations)
    }

    /// The topics that are to be read, and may be.
    fn readable<'b>(&self, may: &'b May) -> Vec<&'b str> {
        let read = |(name, operations): (&'b String, &BTreeSet<Operation>)| {
            let needed = self.needed.get(&Resource::Topic(name.clone()));
            let needed = needed.is_some_and(|needed| needed.contains(&Operation::Read));
            (needed && operations.contains(&Operation::Read)).then_some(&**name)
        };
        may.topics.iter().filter_map(read).collect()
    }

    /// Nothing where the group is not this client's to see: what is missing for that has been said.
    fn group(&self, admin: &Admin, may: &May) -> Option<Check> {
        let group = catalog::GROUP_PROCESSORS;
        let seen = may.groups.get(group);
        seen.filter(|operations| operations.contains(&Operation::Describe))?;
        Some(match admin.group(group, WAIT) {
            Ok(found) => verdict::group(group, &found),
            Err(error) => refused("group", error),
        })
    }

    /// Opens a producer with an id as the roles' ids are: whether they may is told in no other way.
    fn transactional(&self, admin: &Admin) -> Vec<Check> {
        const CHECK: &str = "transactional producer";
        let prefixes: BTreeSet<&str> = self
            .roles
            .iter()
            .filter_map(|role| transactional_ids(*role))
            .collect();
        let open = |prefix: &str| match admin.transactional(prefix, WAIT) {
            Ok(()) => Check::ok(CHECK, format!("can be opened as {prefix}…")),
            Err(error) if error.disposition() == Disposition::Invalid => Check::fail(
                CHECK,
                error.to_string(),
                self.grant(
                    &Resource::TransactionalIds(prefix.to_owned()),
                    &[Operation::Write],
                ),
            ),
            Err(error) => refused(CHECK, error),
        };
        prefixes.into_iter().map(open).collect()
    }

    fn written(&self, admin: &Admin) -> Check {
        if self.write {
            match admin.write(WAIT) {
                Ok(clocks) => verdict::clocks(clocks),
                Err(error) => refused("write", error),
            }
        } else {
            Check::ok("write", "not tried; with --write a topic is made, written to in a transaction, read and removed, which also compares the clocks".to_owned())
        }
    }

    /// Looks twice where something is open: what is still open after the time-out hangs.
    fn open_transactions(
        &self,
        admin: &Admin,
        current: &BTreeMap<String, Current>,
        say: impl Fn(&str),
    ) -> Check {
        let topics: Vec<(&str, u32)> = current
            .iter()
            .map(|(topic, found)| (&**topic, found.partitions))
            .collect();
        let look = || admin.open_transactions(&topics, WAIT);
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

fn readable(admin: &Admin, names: &[&str]) -> Check {
    match admin.readable(names, READ) {
        Ok(()) => Check::ok("reading", format!("{} topics can be read", names.len())),
        Err(error) => refused("reading", error),
    }
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

/// Whether it answers, and what it would let happen to a topic's readers.
fn registry(settings: RegistryConfig) -> anyhow::Result<Check> {
    const CHECK: &str = "registry";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let registry = match Registry::new(settings, runtime.handle().clone()) {
        Ok(registry) => registry,
        Err(error) => return Ok(Check::fail(CHECK, error.to_string(), "see the message")),
    };
    Ok(match runtime.block_on(registry.level()) {
        Ok(level) => verdict::registry(registry.at(), &level),
        Err(error) => Check::fail(
            CHECK,
            error.to_string(),
            "is this its address, does it run, and are [registry] user and password right?",
        ),
    })
}

fn print(output: &mut Output, checks: &[Check]) -> std::io::Result<()> {
    let rows = checks
        .iter()
        .map(|check| json!({"check": check.name, "status": check.level.name(), "found": check.found, "advice": check.advice}))
        .collect();
    print_columns(output, rows, &["status", "check", "found", "advice"])
}
