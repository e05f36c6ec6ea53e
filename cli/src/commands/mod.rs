//! The commands: one file per noun. Each asks the server over HTTP or works on local files; `topics` and `doctor` ask Kafka
//! itself, `history` the destinations. None of them runs a role. `dev`, and the server behind `run FILE`, come from outside as [`Hooks`].

pub(crate) mod apply;
mod build;
mod confirm;
mod dead_letters;
mod doctor;
mod executions;
mod graphs;
mod history;
mod local;
mod modules;
mod new;
mod payloads;
mod rehearse;
mod replay;
pub(crate) mod rights;
mod run;
mod secrets;
mod settings;
mod test;
mod topics;
mod trace;
mod validate;
mod world;

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Cli, Command, DevArgs, ExecCommand, Global, SchemaCommand, ServeArgs};
use crate::client::Client;
use crate::config;
use crate::exit::{self, Exit, Failure};
use crate::output::Output;

/// What only the whole binary can do: run the roles in this process.
pub(crate) struct Hooks {
    /// `weir dev`: returns when it is told to stop.
    pub(crate) dev: fn(DevArgs, Global) -> anyhow::Result<()>,
    /// `weir serve`: the same.
    pub(crate) serve: fn(ServeArgs, Global) -> anyhow::Result<()>,
    /// A server in this process that lives as long as the value; for `weir run FILE`, which names the file.
    pub(crate) ephemeral: fn(&Path) -> anyhow::Result<Box<dyn Ephemeral>>,
}

/// A server in this process; stops when dropped.
pub(crate) trait Ephemeral {
    /// Such as `http://127.0.0.1:49152`.
    fn url(&self) -> String;
    /// The API key that it asks for, if any.
    fn api_key(&self) -> Option<String> {
        None
    }
}

/// Runs a command to its end; prints what failed.
pub(crate) fn run(cli: Cli, hooks: &Hooks) -> ExitCode {
    let mut output = Output::standard(cli.global.output);
    let result = dispatch(cli, hooks, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => match exit::of(&error) {
            None => ExitCode::SUCCESS,
            Some(exit) => {
                output
                    .progress()
                    .note(&format!("error: {}", message(&error)));
                exit.into()
            }
        },
    }
}

/// The chain of an error on one line, each cause once; a `Failure` speaks for itself.
fn message(error: &anyhow::Error) -> String {
    error
        .downcast_ref::<Failure>()
        .map_or_else(|| format!("{error:#}"), ToString::to_string)
}

fn dispatch(cli: Cli, hooks: &Hooks, output: &mut Output) -> anyhow::Result<Exit> {
    let global = cli.global;
    match cli.command {
        Command::Dev(args) => (hooks.dev)(args, global)?,
        Command::Serve(args) => (hooks.serve)(args, global)?,
        Command::New(args) => new::new(&args, output)?,
        Command::Build(args) => build::build(&args, output)?,
        Command::Validate(args) => return validate::validate(&args, output),
        Command::Apply(args) => apply::apply(&client(&global)?, &args, output)?,
        Command::Run(args) => return run::run(&args, &global, hooks.ephemeral, output),
        Command::Graph(command) => graphs::graph(&client(&global)?, command, output)?,
        Command::Exec(ExecCommand::Replay(args)) => return replay::one(&args, &global, output),
        Command::Exec(command) => executions::exec(&client(&global)?, command, output)?,
        Command::Dlq(command) => return dead_letters::dlq(&client(&global)?, command, output),
        Command::History(command) => return history::history(&command, &global, output),
        Command::Test(args) => return test::test(&args, output),
        Command::Replay(args) => return replay::range(&args, &global, output),
        Command::Module(command) => modules::module(command, &global, output)?,
        Command::Secret(command) => secrets::secret(&client(&global)?, command, output)?,
        Command::Payloads(command) => payloads::payloads(&client(&global)?, &command, output)?,
        Command::Doctor(args) => return doctor::doctor(&args, &global, output),
        Command::Topics(command) => return topics::topics(&command, &global, output),
        Command::Schema(SchemaCommand::Graph) => output.document(&schemas::graph::json_schema())?,
        Command::Schema(SchemaCommand::Config) => output.document(&config::json_schema())?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            output.text(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(Exit::Ok)
}

/// The client that flags, environment and `weir.toml` ask for, in this order.
pub(crate) fn client(global: &Global) -> anyhow::Result<Client> {
    let (url, api_key) = settings::server(global)?;
    Ok(Client::new(&url, api_key)?)
}
