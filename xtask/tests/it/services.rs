//! The servers that tests take: they come back after a kill, and nothing of them stays.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use xtask::services::{cassandra, postgres, registry};

fn address(url: &str) -> String {
    let (_, at) = url.split_once('@').unwrap();
    at.split_once('/').unwrap().0.to_owned()
}

/// What the server forked may hold its socket for a moment longer.
fn refuses(address: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_ok() {
        assert!(
            Instant::now() < deadline,
            "{address} still takes connections"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_temporary_postgres_comes_back_after_a_kill_and_ends_with_its_owner() {
    let mut postgres = postgres::Temporary::start().unwrap();
    let address = address(&postgres.url());
    TcpStream::connect(&address).unwrap();
    postgres.kill().unwrap();
    refuses(&address);
    postgres.restart().unwrap();
    TcpStream::connect(&address).unwrap();
    drop(postgres);
    refuses(&address);
}

#[test]
fn a_temporary_registry_comes_back_after_a_kill_and_ends_with_its_owner() {
    let mut registry = registry::Temporary::start().unwrap();
    let url = registry.url();
    let address = url.split('/').nth(2).unwrap();
    TcpStream::connect(address).unwrap();
    registry.kill().unwrap();
    refuses(address);
    registry.restart().unwrap();
    TcpStream::connect(address).unwrap();
    drop(registry);
    refuses(address);
}

#[test]
fn a_temporary_cassandra_comes_back_after_a_kill_and_ends_with_its_owner() {
    let mut cassandra = cassandra::Temporary::start().unwrap();
    let address = cassandra.at();
    TcpStream::connect(&address).unwrap();
    cassandra.kill().unwrap();
    refuses(&address);
    cassandra.restart().unwrap();
    TcpStream::connect(&address).unwrap();
    drop(cassandra);
    refuses(&address);
}
