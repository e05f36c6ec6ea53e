//! `weir`: the one binary. Commands that speak to a server stand in `commands`; what runs the roles in this process is
//! wired here.

mod args;
mod client;
mod commands;
mod config;
mod dev;
mod exit;
mod logging;
mod output;
mod roles;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let hooks = commands::Hooks {
        dev: dev::dev,
        serve: serve::serve,
        ephemeral: dev::ephemeral,
    };
    commands::run(args::Cli::parse(), &hooks)
}
