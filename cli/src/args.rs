//! The command line, as clap reads it. What each command does stands in `commands/`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::rights::User;
use crate::config::duration;
use crate::roles::{self, Role, Roles};

/// Runs WASM step graphs on every event, exactly once.
#[derive(Parser, Debug)]
#[command(name = "weir", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes. A flag wins over the environment, which wins over `weir.toml`.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Global {
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Where the server is [default: http://127.0.0.1:8080]
    #[arg(long, global = true, env = "WEIR_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The key that the server asks for
    #[arg(
        long,
        global = true,
        env = "WEIR_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Option<String>,
    /// The file with settings [default: weir.toml, where there is one]
    #[arg(long, global = true, env = "WEIR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// How results are printed.
#[derive(ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run everything in one process on this machine: API, hooks, processor and sink
    Dev(DevArgs),
    /// Run roles on Kafka and a shared store, in as many processes as needed
    Serve(ServeArgs),
    /// Make a folder with a step in a language of your choice
    New(NewArgs),
    /// Build the step in a folder: step.wasm
    Build(BuildArgs),
    /// Check graph files and the modules they use, without a server
    Validate(ValidateArgs),
    /// Send graphs and their modules to the server and make them active
    Apply(ApplyArgs),
    /// Fire a graph for each line of a file, wait, and print what came out
    Run(RunArgs),
    /// Run the cases beside graphs (*.test.yaml): no broker, no database, no network
    #[command(disable_version_flag = true)]
    Test(TestArgs),
    /// Run a topic's past triggers again, and say what would be otherwise
    #[command(disable_version_flag = true)]
    Replay(ReplayArgs),
    /// Look at graphs, pause, resume, roll back and delete them
    #[command(subcommand)]
    Graph(GraphCommand),
    /// Look at executions
    #[command(subcommand)]
    Exec(ExecCommand),
    /// Look at dead letters, run them again, let them go
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Erase what destinations keep of a tenant
    #[command(subcommand)]
    History(HistoryCommand),
    /// Look at modules, send them to the server
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Set and remove secrets, which steps and webhooks name
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Look at payloads that no record takes
    #[command(subcommand)]
    Payloads(PayloadsCommand),
    /// Make Kafka's topics as Weir needs them
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Say what is wrong with the Kafka cluster and the store, and the way out
    Doctor(DoctorArgs),
    /// Print the JSON Schema of a file that people write
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug, Clone)]
pub(crate) struct DevArgs {
    /// Graph files to apply at the start, and folders to search for them
    #[arg(value_name = "DIR|GRAPH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Where everything is kept
    #[arg(long, default_value = ".weir", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where API and hooks listen
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ServeArgs {
    /// What this process is: all, ingest, processor, sink, control; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', default_value = "all", value_parser = role)]
    pub(crate) roles: Vec<ServeRole>,
    /// Kafka, as host:port,host:port [kafka.brokers]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
    /// Where graphs, modules and the inbox are: postgres://… or sqlite:PATH [store.url]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Where HTTP listens [listen; default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// A folder for compiled modules [data; default: .weir]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Create the topics that are missing [topics.create]
    #[arg(long)]
    pub(crate) create_topics: bool,
    /// How the log is written
    #[arg(
        long,
        value_enum,
        default_value_t,
        env = "WEIR_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
}

/// How the log is written.
#[derive(ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A value of `--role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServeRole {
    All,
    One(Role),
}

/// The roles that are meant.
pub(crate) fn roles_of(asked: &[ServeRole]) -> Roles {
    let each = |role: &ServeRole| match role {
        ServeRole::All => roles::all(),
        ServeRole::One(role) => Roles::from([*role]),
    };
    asked.iter().flat_map(each).collect()
}

fn role(text: &str) -> Result<ServeRole, String> {
    if text == "all" {
        return Ok(ServeRole::All);
    }
    if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == text) {
        return Ok(ServeRole::One(role));
    }
    let there = Role::ALL.map(Role::name).join(", ");
    if matches!(text, "scheduler" | "gateway") {
        return Err(format!(
            "the role {text} is not there yet; there are all, {there}"
        ));
    }
    Err(format!("there is no such role; there are all, {there}"))
}

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The step's name
    pub(crate) name: String,
    /// The language: rust, js, ts, python, go or c
    #[arg(long)]
    pub(crate) lang: String,
    /// The folder to make [default: the name]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The folder that `weir new` made
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// Graph files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Leave the modules unread, for graphs whose steps are not built yet
    #[arg(long)]
    pub(crate) graph_only: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    /// Graph files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct RunArgs {
    /// A graph on the server by its name, or a graph file, which runs in this process
    #[arg(value_name = "GRAPH|FILE")]
    pub(crate) graph: String,
    /// One JSON event a line; `-` reads standard input
    #[arg(long, value_name = "FILE.ndjson")]
    pub(crate) input: PathBuf,
    /// The manual trigger to fire; needed where the graph has several
    #[arg(long, value_name = "NAME")]
    pub(crate) trigger: Option<String>,
    /// How long to wait for all of them
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Run here, write nothing, and show each step's input, outputs and time
    #[arg(long)]
    pub(crate) trace: bool,
    /// With --trace: let steps call the hosts that the graph grants
    #[arg(long, requires = "trace")]
    pub(crate) allow_http: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct TestArgs {
    /// Files with cases, and folders to search for *.test.yaml [default: this folder]
    #[arg(value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Also write a report in JUnit's XML
    #[arg(long, value_name = "FILE.xml")]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ReplayOneArgs {
    /// The execution's id
    pub(crate) id: String,
    /// Another version of its graph: a file, or a version's first digits, or active [default: the one that it ran]
    #[arg(long, value_name = "FILE|VERSION")]
    pub(crate) graph: Option<String>,
    /// Show what would be otherwise
    #[arg(long)]
    pub(crate) diff: bool,
    /// Have the server run it again as a new execution, on the active version: it writes, and calls who it calls
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// With --allow-http: the id of an earlier request that may not have been heard; nothing runs twice
    #[arg(long, value_name = "ID", requires = "allow_http")]
    pub(crate) request: Option<String>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ReplayArgs {
    /// The topic: weir.triggers, or one that the graph reads
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// From this time on: 15m, 2h, 7d ago, or a time such as 2026-01-31T12:00:00Z [default: the earliest kept]
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Up to this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// The graph, and which of its versions [default: the active one]
    #[arg(long, value_name = "GRAPH@VERSION")]
    pub(crate) graph: String,
    /// Run here, write nothing, call nobody
    #[arg(long, conflicts_with = "allow_http")]
    pub(crate) dry_run: bool,
    /// Show what would be otherwise
    #[arg(long)]
    pub(crate) diff: bool,
    /// Have the server run all of it again as new executions, on the active version
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// With --allow-http: the id of an earlier request that may not have been heard; nothing runs twice
    #[arg(long, value_name = "ID", requires = "allow_http")]
    pub(crate) request: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum GraphCommand {
    /// List graphs
    List {
        /// Also those that were deleted
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show one graph
    Get {
        /// The graph's name
        name: String,
        /// Print the file as it was applied
        #[arg(long)]
        source: bool,
    },
    /// Show what happened to a graph, newest first
    History {
        /// The graph's name
        name: String,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Park a graph's triggers from now on: they are taken, and run after resume
    Pause {
        /// The graph's name
        name: String,
    },
    /// Run what was parked, in its order, then what comes
    Resume {
        /// The graph's name
        name: String,
    },
    /// Make an earlier version the active one again
    Rollback {
        /// The graph's name
        name: String,
        /// The version, or its first 6 digits or more [default: the one before the present]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
    },
    /// Delete a graph: it takes no triggers any more, and what is parked becomes dead letters; apply brings it back
    Delete {
        /// The graph's name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum ExecCommand {
    /// List executions, newest first
    List {
        /// Only of this graph
        #[arg(long)]
        graph: Option<String>,
        /// Only with this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Only of this trigger's id, such as a webhook's delivery id
        #[arg(long, value_name = "ID")]
        trigger_id: Option<String>,
        /// Only since then: 15m, 2h, 7d or a time such as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show one execution and what came out of it
    Get {
        /// The execution's id
        id: String,
        /// Wait up to this long for it to finish
        #[arg(long, value_name = "TIME", value_parser = duration)]
        wait: Option<Duration>,
    },
    /// Run one again, here, and say whether it comes to the same
    #[command(disable_version_flag = true)]
    Replay(ReplayOneArgs),
    /// Follow an execution until it has finished
    Watch {
        /// The execution's id
        id: String,
        /// How long at most
        #[arg(long, default_value = "1h", value_name = "TIME", value_parser = duration)]
        timeout: Duration,
    },
}

/// What an execution came to.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Succeeded,
    Failed,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DlqCommand {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        filter: LetterFilter,
        /// Those that were purged
        #[arg(long)]
        purged: bool,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show one dead letter with the original record
    Show {
        /// The dead letter's id
        id: String,
    },
    /// Run dead letters again, each as a new execution, exactly once
    #[command(disable_version_flag = true)]
    Redrive {
        #[command(flatten)]
        which: WhichLetters,
        /// Also letters that were redriven before
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// The version that runs them [default: triggers run the active one, hops the one that they began with]
        #[arg(long, value_enum, value_name = "VERSION")]
        version: Option<RedriveVersion>,
        #[command(flatten)]
        request: RequestArgs,
    },
    /// Let dead letters go: they are no longer shown, and the history drops their bytes
    Purge {
        #[command(flatten)]
        which: WhichLetters,
        /// Do it: their bytes do not come back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        request: RequestArgs,
    },
}

/// Dead letters that are like this.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct LetterFilter {
    /// Only of this graph
    #[arg(long)]
    pub(crate) graph: Option<String>,
    /// Only of this kind of failure, such as trap
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only of this step
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// Only since then: 15m, 2h, 7d or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

/// Dead letters by their ids, or all that are like this.
#[derive(Args, Debug, Clone)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "graph", "kind", "step", "since"]))]
pub(crate) struct WhichLetters {
    /// The dead letters' ids
    #[arg(value_name = "ID", conflicts_with_all = ["graph", "kind", "step", "since"])]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: LetterFilter,
}

/// How a request is known again, and waited for.
#[derive(Args, Debug, Clone)]
pub(crate) struct RequestArgs {
    /// The id of an earlier request that may not have been heard: it is not done twice
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// How long to wait until all of them are written
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Duration,
}

/// The version that runs a redriven letter.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedriveVersion {
    /// The one that is active now
    Active,
    /// The one in which it died
    Original,
}

#[derive(Subcommand, Debug)]
pub(crate) enum HistoryCommand {
    /// Delete all executions, outputs and dead letters of a tenant: in each of [destinations] and in the SQLite file of [sink]
    Erase {
        /// Whose
        #[arg(long, value_name = "TENANT")]
        tenant: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModuleCommand {
    /// Send a module to the server, and give it a name that graphs can use
    #[command(disable_version_flag = true)]
    Push {
        /// The component
        file: PathBuf,
        /// Such as price@1.2.0; it keeps this module for ever
        #[arg(value_name = "NAME@VERSION")]
        name: Option<String>,
    },
    /// The server's modules, with their names
    List {
        #[arg(long, default_value_t = 50)]
        /// How many at most
        limit: u32,
    },
    /// Say what a module is and what it asks for; a file needs no server
    Inspect {
        /// A file, a digest (sha256:…), or a name such as price@1
        #[arg(value_name = "FILE|DIGEST|NAME")]
        module: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SecretCommand {
    /// Set a secret to what comes on standard input
    Set {
        /// Letters, digits and _
        name: String,
        /// Read the value from this file instead
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// The names of secrets; values are never shown
    List {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Remove a secret
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum PayloadsCommand {
    /// Remove payloads that nothing refers to any more, as the server does once an hour
    Sweep {
        /// Only count them
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum TopicsCommand {
    /// Print what `apply` would do: + create, ~ change, ! cannot be done
    Plan(TopicsArgs),
    /// Do it; deletes nothing
    Apply {
        #[command(flatten)]
        args: TopicsArgs,
        /// Also add partitions, which breaks the order of keys once
        #[arg(long)]
        yes: bool,
    },
    /// Print the rights (ACLs) that roles and commands need, and no more; -o json has the commands that grant them
    Rights(RightsArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RightsArgs {
    /// Only of these: ingest, processor, sink, control; topics (weir topics), doctor (weir doctor --write)
    #[arg(long = "for", value_name = "WHO", value_delimiter = ',', value_parser = user)]
    pub(crate) users: Vec<User>,
    /// Kafka, as host:port,host:port, for the commands [kafka.brokers]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
}

fn user(text: &str) -> Result<User, String> {
    User::all().find(|user| user.name() == text).ok_or_else(|| {
        let there: Vec<&str> = User::all().map(User::name).collect();
        format!(
            "nobody of that name needs rights; there are {}",
            there.join(", ")
        )
    })
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) topics: TopicsArgs,
    /// The store, as of weir serve [store.url]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Whose rights are looked at: all, ingest, processor, sink, control; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', default_value = "all", value_parser = role)]
    pub(crate) roles: Vec<ServeRole>,
    /// Also make a topic for a moment, write to it in a transaction, read it back: rights to write, and the clocks
    #[arg(long)]
    pub(crate) write: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct TopicsArgs {
    /// Kafka, as host:port,host:port [kafka.brokers]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
    /// Other partitions, retention and replication than Weir's own
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum SchemaCommand {
    /// The graph file
    Graph,
    /// The settings, weir.toml
    Config,
}

#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct LimitArgs {
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command that the page about `weir serve` shows.
    #[test]
    fn what_the_docs_show() {
        let page = include_str!("../../docs/serve.md");
        let shown: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("weir "))
            .collect();
        assert!(shown.len() > 6, "{shown:?}");
        for line in shown {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn what_users_type() {
        for line in [
            "weir dev examples --data .weir --listen 127.0.0.1:0",
            "weir run orders --input in.ndjson --trigger hand --timeout 5s -o json",
            "weir exec list --graph orders --status failed --since 15m --limit 5",
            "weir graph get orders --source",
            "weir graph list --deleted --limit 3",
            "weir graph pause orders",
            "weir graph resume orders -o json",
            "weir graph rollback orders",
            "weir graph rollback orders --to 0a1b2c",
            "weir graph delete orders --yes",
            "weir dlq show 0-12 -o yaml",
            "weir dlq list --graph orders --step s --since 1h --purged",
            "weir dlq redrive 0-12 1-3 --version original -o json",
            "weir dlq redrive --graph orders --kind trap --step s --since 2h --all --request r-1 --wait 5s",
            "weir dlq purge --graph orders --yes",
            "weir payloads sweep --dry-run -o json",
            "weir new price --lang go --dir steps/price -o json",
            "weir build",
            "weir build steps/price -o json",
            "weir schema graph",
            "weir schema config",
            "weir topics plan --file t.toml --brokers a:1 -o json",
            "weir topics apply --yes",
            "weir doctor --brokers a:1 --store sqlite:x --write -o json",
            "weir serve --role processor --role ingest --brokers a:1,b:2 --store sqlite:x --create-topics --log-format json",
            "weir serve --role ingest,control",
            "weir completions bash",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
        for line in [
            "weir new price",
            "weir exec list --limit 0",
            "weir dlq redrive",
            "weir dlq redrive --all",
            "weir dlq redrive 0-1 --graph orders",
            "weir dlq redrive 0-1 --version v1",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        let later = Cli::try_parse_from(["weir", "serve", "--role", "scheduler"]);
        let said = later.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            said.contains("the role scheduler is not there yet"),
            "{said}"
        );
    }
}
