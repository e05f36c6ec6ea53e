//! Real servers for tests and for people, from package registries, on loopback, without Docker.
//!
//! `cargo xtask services start kafka` leaves one running until `stop`; a test takes `kafka::Temporary`, or that
//! of another, which end with the process that started them, however that ends. Everything lies under `target/services`.
//! Needed: Java 17 or newer and Maven for Kafka, Debian's `postgresql` for Postgres, Java 21 or newer, Maven and curl for
//! the schema registry, Java 17 and Maven for Cassandra, Go for MinIO.

pub mod cassandra;
mod java;
pub mod kafka;
pub mod maven;
pub mod minio;
pub mod postgres;
pub mod process;
pub mod registry;
pub mod strangers;
mod temporary;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Subcommand;

/// What `cargo xtask services` takes.
#[derive(Subcommand)]
pub enum Task {
    /// Start a service, or find it running, and wait until it is ready
    Start {
        service: Service,
        /// Listen on this port instead of a free one (the first broker; the others take free ones)
        #[arg(long)]
        port: Option<u16>,
        /// How many Kafka brokers: 1, or 3 with every topic on three of them, two of which must have a record
        #[arg(long, default_value_t = 1)]
        brokers: u16,
        /// Kafka with TLS, SASL and ACLs: nobody but the super user may do anything yet
        #[arg(long)]
        secure: bool,
    },
    /// Stop a service that `start` started; what it holds stays
    Stop { service: Service },
    /// Say which services run, and where
    Status,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Service {
    Kafka,
    Postgres,
    /// A schema registry (Apicurio, with Confluent's API), in memory
    Registry,
    /// A node that speaks CQL, as ScyllaDB does
    Cassandra,
    /// Object storage that speaks S3
    Minio,
}

/// Does it, and says what there is now, a line per service.
pub fn run(task: &Task) -> Result<Vec<String>> {
    let stopped = |name: &str, was_running: bool| {
        vec![if was_running {
            format!("{name} has stopped")
        } else {
            format!("{name} was not running")
        }]
    };
    let status = |name: &str, at: Option<String>| match at {
        Some(at) => format!("{name} runs at {at}"),
        None => format!("{name} does not run"),
    };
    match task {
        Task::Start {
            service: Service::Kafka,
            port,
            brokers,
            secure,
        } => {
            ensure!(
                matches!(brokers, 1 | 3),
                "there are clusters of 1 broker and of 3, none of {brokers}"
            );
            let kind = kafka::Kind::new(usize::from(*brokers), *secure);
            let (at, security) = kafka::start(*port, kind)?;
            let mut said = vec![format!("kafka is ready at {at}")];
            if let Some(security) = security {
                said.extend(secured(&at, &security));
            }
            Ok(said)
        }
        Task::Start {
            service: Service::Postgres,
            port,
            ..
        } => Ok(vec![format!(
            "postgres is ready at {}",
            postgres::start(*port)?
        )]),
        Task::Start {
            service: Service::Registry,
            port,
            ..
        } => Ok(vec![format!(
            "registry is ready at {}",
            registry::start(*port)?
        )]),
        Task::Start {
            service: Service::Cassandra,
            port,
            ..
        } => Ok(vec![format!(
            "cassandra is ready at {}",
            cassandra::start(*port)?
        )]),
        Task::Start {
            service: Service::Minio,
            port,
            ..
        } => Ok(vec![
            format!("minio is ready at {}", minio::start(*port)?),
            format!("user {}, password {}", minio::USER, minio::PASSWORD),
        ]),
        Task::Stop {
            service: Service::Kafka,
        } => Ok(stopped("kafka", kafka::stop()?)),
        Task::Stop {
            service: Service::Postgres,
        } => Ok(stopped("postgres", postgres::stop()?)),
        Task::Stop {
            service: Service::Registry,
        } => Ok(stopped("registry", registry::stop()?)),
        Task::Stop {
            service: Service::Cassandra,
        } => Ok(stopped("cassandra", cassandra::stop()?)),
        Task::Stop {
            service: Service::Minio,
        } => Ok(stopped("minio", minio::stop()?)),
        Task::Status => Ok(vec![
            status("kafka", kafka::running()),
            status("postgres", postgres::running()),
            status("registry", registry::running()),
            status("cassandra", cassandra::running()),
            status("minio", minio::running()),
        ]),
    }
}

/// What a person needs to come in: settings of Weir, and those of Kafka's tools.
fn secured(at: &str, security: &kafka::Security) -> Vec<String> {
    let mut said = vec![
        "the super user, in weir.toml:".to_owned(),
        "[kafka]".to_owned(),
        format!("brokers = \"{at}\""),
        "[kafka.properties]".to_owned(),
    ];
    let properties = security.of_admin();
    said.extend(
        properties
            .iter()
            .map(|(name, value)| format!("\"{name}\" = \"{value}\"")),
    );
    said.push(format!(
        "and for Kafka's own tools: --bootstrap-server {at} --command-config {}",
        security.of_tools().display()
    ));
    said
}

/// Where everything about services lies.
fn folder() -> PathBuf {
    crate::root().join("target").join("services")
}
