//! Reaches for the outside through WASI 0.2 and emits what it got as one JSON object. The input's text chooses:
//! `exit` calls `wasi:cli/exit`, `sleep` sleeps for an hour, `print N` writes N lines of 100 bytes to stdout and as
//! many to stderr; anything else (also) reports.

use serde_json::json;
use weir_step::{Context, Event, Failure, Output, Step};

mod reach {
    wit_bindgen::generate!({ path: "wit", world: "reach", generate_all });
}
use reach::wasi::cli::{environment, exit, stderr, stdout};
use reach::wasi::clocks::{monotonic_clock, wall_clock};
use reach::wasi::filesystem::preopens;
use reach::wasi::io::streams::OutputStream;
use reach::wasi::random::{insecure, insecure_seed, random};
use reach::wasi::sockets::instance_network::instance_network;
use reach::wasi::sockets::ip_name_lookup::resolve_addresses;
use reach::wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
};
use reach::wasi::sockets::tcp_create_socket::create_tcp_socket;
use reach::wasi::sockets::udp_create_socket::create_udp_socket;

struct Wasi;
weir_step::export!(Wasi);

impl Step for Wasi {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let text = event.text()?;
        match text.split_once(' ').unwrap_or((text, "")) {
            ("exit", _) => exit::exit(Ok(())),
            ("sleep", _) => monotonic_clock::subscribe_duration(3_600_000_000_000).block(),
            ("print", lines) => {
                let lines = lines.parse().unwrap_or(1);
                print(&stdout::get_stdout(), "out", lines);
                print(&stderr::get_stderr(), "err", lines);
            }
            _ => {}
        }
        let now = wall_clock::now();
        let seen = json!({
            "wall_s": now.seconds,
            "wall_ns": now.nanoseconds,
            "monotonic_ns": monotonic_clock::now(),
            "monotonic_again_ns": monotonic_clock::now(),
            "random": random::get_random_bytes(16),
            "insecure": insecure::get_insecure_random_bytes(16),
            "seed": insecure_seed::insecure_seed(),
            "environment": environment::get_environment(),
            "arguments": environment::get_arguments(),
            "cwd": environment::initial_cwd(),
            "preopens": preopens::get_directories().into_iter().map(|(_, path)| path).collect::<Vec<_>>(),
            "tcp_connect": said(tcp_connect()),
            "tcp_bind": said(tcp_bind()),
            "udp_bind": said(udp_bind()),
            "lookup": said(resolve_addresses(&instance_network(), "localhost").and_then(|found| found.resolve_next_address()).map(drop)),
        });
        Ok(vec![Output::json(Output::OUT, &seen)?])
    }
}

fn print(stream: &OutputStream, name: &str, lines: u32) {
    for line in 0..lines {
        let text = format!("{name} {line} {:-<100}", "");
        if stream
            .blocking_write_and_flush(format!("{}\n", &text[..99]).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn said(result: Result<(), ErrorCode>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(code) => code.name().into(),
    }
}

fn loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port,
        address: (127, 0, 0, 1),
    })
}

fn tcp_connect() -> Result<(), ErrorCode> {
    create_tcp_socket(IpAddressFamily::Ipv4)?.start_connect(&instance_network(), loopback(80))
}

fn tcp_bind() -> Result<(), ErrorCode> {
    create_tcp_socket(IpAddressFamily::Ipv4)?.start_bind(&instance_network(), loopback(0))
}

fn udp_bind() -> Result<(), ErrorCode> {
    create_udp_socket(IpAddressFamily::Ipv4)?.start_bind(&instance_network(), loopback(0))
}
