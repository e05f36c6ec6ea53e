//! Plays GitHub: posts signed webhooks to a `weir dev` on this machine, and to nothing else.
//!
//! Every payload has a delivery id that is the same on every run, so that a second run is a redelivery: it must be
//! answered with the same execution ids.

mod connection;
mod payloads;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use connection::Connection;
pub use payloads::{Payload, load};

/// What `cargo xtask send-github` takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The hook; loopback only
    #[arg(long, default_value = "http://127.0.0.1:8080/hooks/default/github")]
    pub url: String,
    /// What the deliveries are signed with
    #[arg(long, env = "GITHUB_WEBHOOK_SECRET", hide_env_values = true)]
    pub secret: String,
    /// Send everything twice and hold the second answers to the first ones
    #[arg(long)]
    pub again: bool,
    #[arg(short, long, default_value = "table")]
    pub output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// What was sent and what came back.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where the payloads are from.
    pub source: String,
    pub kinds: usize,
    pub sent: usize,
    /// How many were answered as they should be.
    pub accepted: usize,
    /// How many were sent a second time and got the id of the first; absent without `--again`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_again: Option<usize>,
    pub deliveries: Vec<Delivery>,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
}

/// One accepted webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    pub event: String,
    pub delivery: String,
    pub execution: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "payloads    {} of {} kinds, from {}",
            self.sent, self.kinds, self.source
        )?;
        write!(f, "accepted    {} (202, one execution each)", self.accepted)?;
        if let Some(same) = self.same_again {
            write!(f, "\nsent again  {same} answered with the same id")?;
        }
        for problem in &self.problems {
            write!(f, "\nproblem     {problem}")?;
        }
        Ok(())
    }
}

/// Sends every payload once, or twice with `again`.
pub fn send(root: &Path, options: &Options) -> Result<Report> {
    // The connection first: nothing is fetched for a URL that is refused.
    let mut connection = Connection::open(&options.url)?;
    let (source, payloads) = load(root)?;
    let mut report = Report {
        source,
        kinds: payloads
            .iter()
            .map(|payload| &payload.event)
            .collect::<BTreeSet<_>>()
            .len(),
        sent: payloads.len(),
        accepted: 0,
        same_again: None,
        deliveries: Vec::new(),
        problems: Vec::new(),
    };
    report.deliveries = round(&mut connection, &payloads, options, &mut report.problems)?;
    report.accepted = report.deliveries.len();
    let executions: BTreeSet<&str> = report
        .deliveries
        .iter()
        .map(|delivery| delivery.execution.as_str())
        .collect();
    if executions.len() < report.accepted {
        let twice = report.accepted - executions.len();
        report.problems.push(format!(
            "{twice} different deliveries were answered with an id already given"
        ));
    }
    if options.again {
        let second = round(&mut connection, &payloads, options, &mut report.problems)?;
        let same = second
            .iter()
            .filter(|delivery| report.deliveries.contains(delivery))
            .count();
        if same < report.sent {
            report.problems.push(format!(
                "{} were not answered with the same id when sent again",
                report.sent - same
            ));
        }
        report.same_again = Some(same);
    }
    Ok(report)
}

/// The value of `X-Hub-Signature-256`.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn round(
    connection: &mut Connection,
    payloads: &[Payload],
    options: &Options,
    problems: &mut Vec<String>,
) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::with_capacity(payloads.len());
    for payload in payloads {
        let signature = signature(&options.secret, &payload.body);
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", "GitHub-Hookshot/weir-example"),
            ("x-github-event", &payload.event),
            ("x-github-delivery", &payload.delivery),
            ("x-hub-signature-256", &signature),
        ];
        let answer = connection.post(&headers, &payload.body).with_context(|| {
            format!(
                "while sending {} of {} to {}",
                deliveries.len() + 1,
                payloads.len(),
                options.url
            )
        })?;
        match execution(answer.status, &answer.body) {
            Ok(execution) => deliveries.push(Delivery {
                event: payload.event.clone(),
                delivery: payload.delivery.clone(),
                execution,
            }),
            Err(problem) => {
                problems.push(format!("{} {}: {problem}", payload.event, payload.delivery))
            }
        }
    }
    Ok(deliveries)
}

fn execution(status: u16, body: &[u8]) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Accepted {
        execution: String,
    }
    if status != 202 {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        bail!("answered {status}: {text}");
    }
    let accepted: Accepted =
        serde_json::from_slice(body).context("answered 202 without an execution id")?;
    Ok(accepted.execution)
}
