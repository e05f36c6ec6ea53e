//! The servers that tests take: they come back after a kill, and nothing of them stays.

use std::net::TcpStream;

use xtask::services::postgres;

fn address(url: &str) -> String {
    let (_, at) = url.split_once('@').unwrap();
    at.split_once('/').unwrap().0.to_owned()
}

#[test]
fn a_temporary_postgres_comes_back_after_a_kill_and_ends_with_its_owner() {
    let mut postgres = postgres::Temporary::start().unwrap();
    let address = address(&postgres.url());
    TcpStream::connect(&address).unwrap();
    postgres.kill().unwrap();
    TcpStream::connect(&address).unwrap_err();
    postgres.restart().unwrap();
    TcpStream::connect(&address).unwrap();
    drop(postgres);
    TcpStream::connect(&address).unwrap_err();
}
