//! `benches [NAME,NAME…]`: measures what the names (or prefixes of names) choose, everything without any; prints a table
//! and writes `target/bench.json`. Exits with 1 if something could not be measured, and never for a missed target.

use std::io::Write as _;
use std::process::ExitCode;

use benches::kafka::{child, raw};
use benches::report::Report;
use benches::{say, suite};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    // this program is also the process that the rows on Kafka measure
    let (what, settings) = (
        std::env::args().nth(1),
        std::env::args().nth(2).unwrap_or_default(),
    );
    match what.as_deref() {
        Some(child::ARGUMENT) => return child::run(&settings).map(|()| ExitCode::SUCCESS),
        Some(raw::ARGUMENT) => return raw::child(&settings).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let only: Vec<String> = std::env::args()
        .skip(1)
        .flat_map(|argument| argument.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect();
    let chosen = suite::choose(&only)?;
    let mut report = Report::default();
    for measurement in chosen {
        say(&format!("measuring {} …", measurement.names.join(", ")));
        match (measurement.run)() {
            Ok(rows) => report.measured(rows),
            Err(error) => report.failed(measurement.names, &format!("{error:#}")),
        }
    }
    report.write(&benches::report::file(), only.is_empty())?;
    std::io::stdout().write_all(report.table().as_bytes())?;
    Ok(if report.complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
