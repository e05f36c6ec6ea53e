//! Real servers for tests, from package registries, on loopback, without Docker.
//!
//! `cargo xtask services start kafka` leaves one running until `stop`; a test takes `kafka::Temporary`, which ends with
//! the process that started it, however that ends. Everything lies under `target/services`. Needed: Java 17 or newer,
//! and Maven for the first start.

pub mod kafka;
mod process;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

/// What `cargo xtask services` takes.
#[derive(Subcommand)]
pub enum Task {
    /// Start a service, or find it running, and wait until it is ready
    Start {
        service: Service,
        /// Listen on this port instead of a free one
        #[arg(long)]
        port: Option<u16>,
    },
    /// Stop a service that `start` started
    Stop { service: Service },
    /// Say which services run, and where
    Status,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Service {
    Kafka,
}

/// Does it, and says what there is now, a line per service.
pub fn run(task: &Task) -> Result<Vec<String>> {
    match task {
        Task::Start {
            service: Service::Kafka,
            port,
        } => Ok(vec![format!("kafka is ready at {}", kafka::start(*port)?)]),
        Task::Stop {
            service: Service::Kafka,
        } => Ok(vec![if kafka::stop()? {
            "kafka has stopped".to_owned()
        } else {
            "kafka was not running".to_owned()
        }]),
        Task::Status => Ok(vec![match kafka::running() {
            Some(brokers) => format!("kafka runs at {brokers}"),
            None => "kafka does not run".to_owned(),
        }]),
    }
}

/// Where everything about services lies.
fn folder() -> PathBuf {
    crate::root().join("target").join("services")
}
