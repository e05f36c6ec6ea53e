//! `weir`: the one binary. Commands that speak to a server stand in `commands`; what runs the roles in this process is
//! wired here.

mod args;
mod client;
mod commands;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let hooks = commands::Hooks {
        dev: |_args, _global| Err(exit::Failure::failed("weir dev is not wired yet").into()),
        ephemeral: |_file| Err(exit::Failure::failed("weir run FILE is not wired yet").into()),
    };
    commands::run(args::Cli::parse(), &hooks)
}
