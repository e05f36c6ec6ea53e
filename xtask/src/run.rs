//! `make run`: starts `weir dev` with the example, sends it GitHub's payloads, shows what landed, and keeps serving.
//!
//! The server takes this process's place, so that Ctrl-C reaches it and nothing else; a child sends and shows.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::github;

/// Signs the example's webhooks where the environment names no secret of its own.
const SECRET: &str = "example-secret";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where weir listens; loopback only
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// Where it keeps everything
    #[arg(long, default_value = ".weir")]
    data: PathBuf,
    /// Only send and show: what the child does
    #[arg(long, hide = true)]
    only_send: bool,
}

/// Does not return while the server runs.
pub fn run(options: &Options) -> Result<()> {
    if options.only_send {
        return show(options);
    }
    let weir = weir()?;
    let secret = std::env::var("GITHUB_WEBHOOK_SECRET").unwrap_or_else(|_| SECRET.to_owned());
    Command::new(std::env::current_exe()?)
        .args([
            "run",
            "--only-send",
            "--listen",
            &options.listen.to_string(),
        ])
        .env("GITHUB_WEBHOOK_SECRET", &secret)
        .spawn()
        .context("cannot start the sender")?;
    let failed = Command::new(weir)
        .arg("dev")
        .arg(crate::root().join("examples/github-activity"))
        .arg("--data")
        .arg(&options.data)
        .args(["--listen", &options.listen.to_string()])
        .env("GITHUB_WEBHOOK_SECRET", &secret)
        .exec();
    Err(failed).context("cannot start weir")
}

/// Beside this program.
fn weir() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("weir");
    if !path.is_file() {
        bail!(
            "{} is not there; build it with `cargo build --release --workspace --bin weir`",
            path.display()
        );
    }
    Ok(path)
}

fn show(options: &Options) -> Result<()> {
    let url = format!("http://{}", options.listen);
    let deadline = Instant::now() + PATIENCE;
    while !graph_is_applied(options) {
        if Instant::now() > deadline {
            bail!("weir was not ready at {url} within a minute");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let secret = std::env::var("GITHUB_WEBHOOK_SECRET").context("the sender has no secret")?;
    let hook = format!("{url}/hooks/default/github");
    let send = github::Options {
        url: hook,
        secret,
        again: true,
        output: github::Format::Table,
    };
    let report = github::send(&crate::root(), &send)?;
    if let Some(last) = report.deliveries.last() {
        // All of them have landed when the last one has: they were sent one after the other.
        weir_says(&url, &["exec", "get", &last.execution, "--wait", "30s"])?;
    }
    say(&format!(
        "\nGitHub's webhooks\n{report}\n\nWhat landed (weir exec list --limit 8)\n"
    ))?;
    say(&weir_says(&url, &["exec", "list", "--limit", "8"])?)?;
    let told: Vec<String> = report
        .deliveries
        .iter()
        .rev()
        .take(8)
        .filter_map(|delivery| line_of(&url, &delivery.execution).ok().flatten())
        .collect();
    say(&format!("\nIn words\n  {}\n", told.join("\n  ")))?;
    say(&format!(
        "\nweir keeps serving at {url}; look with  target/release/weir exec list   and   target/release/weir exec get ID\nsend again with  cargo xtask send-github --secret {SECRET} --again\n"
    ))?;
    if !report.problems.is_empty() {
        bail!(
            "{} webhooks were not answered as they should be",
            report.problems.len()
        );
    }
    Ok(())
}

/// The server is there before its graphs are.
fn graph_is_applied(options: &Options) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(options.listen)?;
        stream.write_all(b"GET /api/v1/graphs/github-activity HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The line that the example's last step wrote.
fn line_of(url: &str, execution: &str) -> Result<Option<String>> {
    let shown: serde_json::Value =
        serde_json::from_str(&weir_says(url, &["exec", "get", execution, "-o", "json"])?)?;
    Ok(shown["outputs"][0]["data"]["line"]
        .as_str()
        .map(str::to_owned))
}

fn weir_says(url: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(weir()?)
        .args(args)
        .args(["--url", url])
        .output()
        .context("cannot run weir")?;
    if !output.status.success() {
        bail!(
            "weir {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn say(text: &str) -> Result<()> {
    Ok(write!(std::io::stdout(), "{text}")?)
}
