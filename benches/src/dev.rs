//! The line end to end: the real `weir dev`, real webhooks over HTTP, rows in its history.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::github::{Load, Sent, send};
use crate::log::runtime;
use crate::meter::{load, median};
use crate::place;
use crate::process::Used;
use crate::report::{Row, Target};
use crate::weir::{SECRET, Weir};

const CONNECTIONS: usize = 64;
const REQUESTS_MAX: u64 = 200_000;
const TIME_MAX: Duration = Duration::from_secs(15);
/// Before the clock starts: modules are loaded, instances made, files have their first pages.
const WARM_UP: u64 = 2_000;
/// How long the rows may stand still before it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

const STARTS: usize = 5;
const IDLE: Duration = Duration::from_secs(3);

pub(crate) fn executions() -> Result<Vec<Row>> {
    let (binary, just_built) = place::weir()?;
    let folder = place::scratch()?;
    let graph = chain(folder.path())?;
    let data = folder.path().join("data");
    let weir = Weir::start(&binary, &graph, &data)?;
    let mut history = History::open(&data.join("history.db"))?;

    let to_send = |run, requests_max, time_max| Load {
        address: weir.address,
        path: "/hooks/default/github",
        secret: SECRET,
        connections: CONNECTIONS,
        requests_max,
        time_max,
        run,
    };
    let warm = send(&to_send(0, WARM_UP, PATIENCE))?.count();
    history.wait(warm)?;

    let (threads, before) = (weir.threads()?, weir.used()?);
    let sent = send(&to_send(1, REQUESTS_MAX, TIME_MAX))?;
    history.wait(warm + sent.count())?;
    let elapsed = sent.started.elapsed();
    let used = weir.used()?.since(before);
    let mut work: Vec<(String, Used)> = weir
        .threads()?
        .into_iter()
        .map(|(name, used)| {
            let before = threads.get(&name).copied().unwrap_or_default();
            (name, used.since(before))
        })
        .filter(|(_, used)| used.sum() >= 0.05)
        .collect();
    work.sort_by(|(_, a), (_, b)| b.sum().total_cmp(&a.sum()));
    let peak_mib = weir.status_mib("VmHWM")?;
    let complaints = weir.complaints();
    ensure!(complaints.is_empty(), "weir dev complained:\n{complaints}");
    weir.stop()?;
    // What was warm-up and what was not: all of it exactly once.
    history.check(warm + sent.count())?;

    let rate = sent.count() as f64 / elapsed.as_secs_f64();
    let note = note(&sent, elapsed, used, peak_mib, &work)
        + if just_built {
            "; weir was built first"
        } else {
            ""
        };
    Ok(vec![
        Row::new("dev.executions_per_s", rate, "1/s")
            .target(Target::AtLeast(10_000.0))
            .note(note),
    ])
}

fn note(
    sent: &Sent,
    elapsed: Duration,
    used: Used,
    peak_mib: f64,
    work: &[(String, Used)],
) -> String {
    let each_us = |seconds: f64| seconds * 1e6 / sent.count() as f64;
    let threads: Vec<String> = work
        .iter()
        .map(|(name, used)| {
            format!(
                "{name} {:.2}+{:.2} s = {:.1} µs",
                used.user_s,
                used.system_s,
                each_us(used.sum())
            )
        })
        .collect();
    format!(
        "{} executions in {:.2} s, {:.2} s of them after the last 202 ({:.0} 202/s, p50 {:.1} ms, p99 {:.1} ms, {CONNECTIONS} connections); \
         CPU: weir {:.2} s user + {:.2} s system = {:.1} µs each, sender {:.2} s = {:.1} µs each; peak {peak_mib:.0} MiB; \
         threads (user+system): {}; {}",
        sent.count(),
        elapsed.as_secs_f64(),
        (elapsed - sent.elapsed).as_secs_f64(),
        sent.count() as f64 / sent.elapsed.as_secs_f64(),
        sent.percentile_ms(50),
        sent.percentile_ms(99),
        used.user_s,
        used.system_s,
        each_us(used.sum()),
        sent.cpu.as_secs_f64(),
        each_us(sent.cpu.as_secs_f64()),
        threads.join(", "),
        load()
    )
}

/// The example's three steps in a plain chain.
fn chain(folder: &Path) -> Result<PathBuf> {
    let step = |name: &str, rest: &str| {
        let module = place::root().join(format!("examples/github-activity/steps/{name}.wasm"));
        let module = serde_json::Value::from(module.display().to_string());
        format!("  {name}: {{ uses: {module}, {rest}, isolation: batch }}\n")
    };
    let text = format!(
        "weir: 1\nname: bench\ntriggers:\n  github: {{ webhook: {{ path: /github, verify: {{ scheme: github, secret: GITHUB_WEBHOOK_SECRET }} }} }}\nsteps:\n{}{}{}",
        step("normalise", "from: [github]"),
        step("classify", "ports: [activity, security], from: [normalise]"),
        step("summarise", "from: [classify.activity]"),
    );
    let path = folder.join("bench.yaml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The rows that have landed, read beside the process that writes them.
struct History {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl History {
    fn open(path: &Path) -> Result<Self> {
        let runtime = runtime()?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .disable_statement_logging();
        let connection = runtime.block_on(options.connect())?;
        Ok(Self {
            runtime,
            connection,
        })
    }

    /// Until this many executions have landed. The sink's position is looked at first: that costs nearly nothing.
    fn wait(&mut self, executions: u64) -> Result<()> {
        let (mut last, mut moved) = (-1, Instant::now());
        loop {
            let mut landed = self.number(
                "select coalesce(sum(next_offset), 0) from weir_positions where topic = 'weir.results'",
            )?;
            if landed >= executions as i64 {
                landed = self.number("select count(*) from weir_executions")?;
                if landed >= executions as i64 {
                    return Ok(());
                }
            }
            if landed != last {
                (last, moved) = (landed, Instant::now());
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "{landed} of {executions} executions have landed, and no more come"
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Each execution once, succeeded, with its one output.
    fn check(mut self, executions: u64) -> Result<()> {
        let succeeded =
            self.number("select count(*) from weir_executions where status = 'succeeded'")?;
        let all = self.number("select count(*) from weir_executions")?;
        let outputs = self.number("select count(*) from weir_outputs")?;
        ensure!(
            [succeeded, all, outputs] == [executions as i64; 3],
            "{executions} were accepted; there are {all} executions, {succeeded} succeeded, and {outputs} outputs"
        );
        Ok(self.runtime.block_on(self.connection.close())?)
    }

    fn number(&mut self, query: &'static str) -> Result<i64> {
        let query = sqlx::query_scalar(query).fetch_one(&mut self.connection);
        Ok(self.runtime.block_on(query)?)
    }
}

pub(crate) fn idle() -> Result<Vec<Row>> {
    let (binary, _) = place::weir()?;
    let folder = place::scratch()?;
    let graph = place::root().join("examples/github-activity/graph.yaml");
    let start = || Weir::start(&binary, &graph, folder.path());
    let first = start()?;
    let first_ms = first.ready_after.as_secs_f64() * 1e3;
    first.stop()?;
    let mut starts_ms = Vec::new();
    let weir = loop {
        let weir = start()?;
        starts_ms.push(weir.ready_after.as_secs_f64() * 1e3);
        if starts_ms.len() == STARTS {
            break weir;
        }
        weir.stop()?;
    };
    std::thread::sleep(IDLE);
    let rss_mib = weir.status_mib("VmRSS")?;
    let (anonymous, file, peak) = (
        weir.status_mib("RssAnon")?,
        weir.status_mib("RssFile")?,
        weir.status_mib("VmHWM")?,
    );
    weir.stop()?;
    let start_ms = median(&mut starts_ms);
    Ok(vec![
        Row::new("dev.start_ms", start_ms, "ms")
            .target(Target::AtMost(1_000.0))
            .note(format!(
                "until \"weir dev is ready\", median of {STARTS}; the first one, on an empty folder, {first_ms:.0} ms; {}",
                load()
            )),
        Row::new("dev.idle_rss_mib", rss_mib, "MiB")
            .target(Target::AtMost(80.0))
            .note(format!(
                "{} s after it was ready; {anonymous:.1} anonymous, {file:.1} of files; peak {peak:.1}",
                IDLE.as_secs()
            )),
    ])
}
