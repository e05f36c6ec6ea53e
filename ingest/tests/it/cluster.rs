//! Two instances of ingest on one Kafka and one Postgres: one of them is killed, then Postgres is.
//!
//! The test starts itself as a child (`WEIR_INGEST_CHILD`), which serves and emits, and prints where it listens.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use ingest::IngestConfig;
use parking_lot::Mutex;
use schemas::records::Trigger;
use store::Store;
use tokio::task::JoinSet;
use topics::{Kafka, KafkaConfig, Log, Timeouts, catalog};
use xtask::checker;
use xtask::services::{kafka, postgres};

use crate::line::{GRAPH, Line, apply, github};

const CHILD: &str = "WEIR_INGEST_CHILD";
const NAME: &str = "cluster::two_instances_lose_and_double_nothing";
const SENDERS: usize = 8;
const DELIVERIES: usize = 150;

#[test]
fn two_instances_lose_and_double_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if let Ok(places) = std::env::var(CHILD) {
        let (brokers, store) = places.split_once(' ').unwrap();
        return runtime.block_on(child(brokers, store));
    }
    let (broker, mut database) = std::thread::scope(|scope| {
        let broker = scope.spawn(|| kafka::Temporary::start().unwrap());
        let database = postgres::Temporary::start().unwrap();
        (broker.join().unwrap(), database)
    });
    let url = database.url();
    let log = log(broker.brokers());
    log.create_topics(&catalog::topics()).unwrap();
    runtime.block_on(async {
        let store = Store::connect(&url).await.unwrap();
        apply(&store, GRAPH).await;
        let line = Line::with(log, store, IngestConfig::default()).await;
        on_time(&line);
        let mut other = start(broker.brokers(), &url);
        let source = line.source();
        source.opened().await;

        let sent = Arc::new(Sent::new([line.address, other.address]));
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let sent = sent.clone();
            senders.spawn(async move { sent.all_of(sender).await });
        }
        // in the middle: it owns some of the shards, and takes half of the requests
        sent.until(SENDERS * DELIVERIES / 3).await;
        other.process.kill().unwrap();
        other.process.wait().unwrap();
        sent.until(SENDERS * DELIVERIES * 2 / 3).await;
        let database = tokio::task::spawn_blocking(move || {
            database.kill().unwrap();
            database
        });
        let mut database = database.await.unwrap();
        sent.until_refused().await;
        let database = tokio::task::spawn_blocking(move || {
            database.restart().unwrap();
            database
        });
        let database = database.await.unwrap();
        senders.join_all().await;
        line.drained().await;

        let executions = std::mem::take(&mut *sent.executions.lock());
        assert_eq!(executions.len(), SENDERS * DELIVERIES);
        let mut landed: HashMap<String, usize> = HashMap::new();
        let brokers = broker.brokers().to_owned();
        let open = checker::read(&brokers, &[catalog::TRIGGERS], |record| {
            let value = record.value.unwrap_or_default();
            let trigger = Trigger::decode(&value.into()).unwrap();
            *landed.entry(trigger.trigger_id.clone()).or_default() += 1;
            assert_eq!(
                trigger.execution.to_string(),
                executions[&trigger.trigger_id]
            );
            Ok(())
        });
        assert!(open.unwrap().is_empty(), "a transaction is left open");
        let lost = executions.keys().filter(|id| !landed.contains_key(*id));
        assert_eq!(lost.count(), 0, "lost");
        let doubled = landed.values().filter(|times| **times > 1);
        assert_eq!(doubled.count(), 0, "doubled");
        assert_eq!(landed.len(), executions.len());
        source.stop().await;
        line.store.close().await;
        drop(database);
    });
}

/// What was sent, and what came of it.
struct Sent {
    addresses: [SocketAddr; 2],
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    /// The execution that each delivery was told it is.
    executions: Mutex<HashMap<String, String>>,
}

impl Sent {
    fn new(addresses: [SocketAddr; 2]) -> Self {
        Self {
            addresses,
            acknowledged: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            executions: Mutex::default(),
        }
    }

    /// Sends each delivery until it is acknowledged, to the one or the other; every third twice at once, to both.
    async fn all_of(&self, sender: usize) {
        for i in 0..DELIVERIES {
            let delivery = format!("{sender}.{i}");
            let first = self.one(&delivery, i % 2);
            let told = if i % 3 == 0 {
                let (a, b) = tokio::join!(first, self.one(&delivery, (i + 1) % 2));
                assert_eq!(a, b, "{delivery} is two executions");
                a
            } else {
                first.await
            };
            self.executions.lock().insert(delivery, told);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn one(&self, delivery: &str, mut to: usize) -> String {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            match github(self.addresses[to], delivery, "{}").await {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    return answer.execution().to_owned();
                }
                Ok(answer) => {
                    assert_eq!(
                        answer.status,
                        StatusCode::SERVICE_UNAVAILABLE,
                        "{}",
                        answer.body
                    );
                    assert!(answer.headers.contains_key("retry-after"));
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                // killed
                Err(_) => to = 0,
            }
            pause.tick().await;
        }
    }

    async fn until_refused(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while self.refused.load(Ordering::Relaxed) == 0 {
            ticks.tick().await;
        }
    }

    async fn until(&self, acknowledged: usize) {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while self.acknowledged.load(Ordering::Relaxed) < acknowledged {
            ticks.tick().await;
        }
    }
}

struct Other {
    process: Child,
    address: SocketAddr,
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn start(brokers: &str, store: &str) -> Other {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, format!("{brokers} {store}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("at ")?.parse().ok())
        .unwrap();
    Other { process, address }
}

/// Serves and emits until it is killed.
async fn child(brokers: &str, store: &str) {
    let store = Store::connect(store).await.unwrap();
    let line = Line::with(log(brokers), store, IngestConfig::default()).await;
    on_time(&line);
    let source = line.source();
    source.opened().await;
    let mut out = std::io::stdout();
    writeln!(out, "at {}", line.address).unwrap();
    std::future::pending::<()>().await;
    source.stop().await;
}

/// Kafka refuses records from the future: no clock of the test's own here.
fn on_time(line: &Line) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    line.now_us
        .store(since.as_micros() as u64, Ordering::Relaxed);
}

fn log(brokers: &str) -> Arc<dyn Log> {
    let config = KafkaConfig {
        brokers: brokers.to_owned(),
        timeouts: Timeouts {
            socket: Duration::from_secs(4),
            transaction: Duration::from_secs(10),
            session: Duration::from_secs(6),
            max_poll: Duration::from_secs(20),
        },
        ..KafkaConfig::default()
    };
    Arc::new(Kafka::new(config).unwrap())
}
