//! `cargo xtask …`: see `lib.rs`. Exit codes: 0 ok, 1 failed or drifted, 2 usage, 3 no toolchain found.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::github;
use xtask::guests::{self, NoToolchain, Outcome};

#[derive(Parser)]
#[command(name = "xtask", about = "Tasks of the Weir repository")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the WASM steps of the tests and the examples, and write the components that are committed
    Guests {
        /// Write nothing: say which components differ from their sources
        #[arg(long)]
        check: bool,
        /// Only these
        names: Vec<String>,
    },
    /// Post GitHub's webhooks, signed, to a `weir dev` on this machine
    SendGithub(github::Options),
    /// What `make run` does: start weir with the example, send webhooks, show what landed, keep serving
    Run(xtask::run::Options),
    /// Check what the compiler does not: which crate knows which, where a library is named
    Tidy,
    /// Run the fault tests at their full size; write target/prove.json
    Prove {
        /// Only these, separated by commas
        #[arg(default_value = "")]
        only: String,
    },
    /// Start and stop the servers that tests need
    #[command(subcommand)]
    Services(xtask::services::Task),
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<NoToolchain>() { 3 } else { 1 })
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Run(options) => xtask::run::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Tidy => {
            let untidy = xtask::tidy::check(&xtask::root())?;
            untidy.iter().for_each(say);
            Ok(if untidy.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Task::Prove { only } => {
            let passed = xtask::prove::run(&xtask::root(), &only)?;
            Ok(if passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Task::Services(task) => {
            xtask::services::run(&task)?.iter().for_each(say);
            Ok(ExitCode::SUCCESS)
        }
        Task::SendGithub(options) => {
            let report = github::send(&xtask::root(), &options)?;
            match options.output {
                github::Format::Table => say(&report),
                github::Format::Json => say(serde_json::to_string_pretty(&report)?),
            }
            Ok(if report.problems.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Task::Guests { check, names } => {
            let root = xtask::root();
            let lines = if check {
                guests::check(&root, &names)?
            } else {
                guests::write(&root, &names)?
            };
            for line in &lines {
                say(line);
            }
            let drifted = lines
                .iter()
                .any(|line| matches!(line.outcome, Outcome::Drifted(_)));
            Ok(if drifted {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where results go to stdout"
)]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
