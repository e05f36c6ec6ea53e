//! `make soak`: many seeds (`SEEDS`, from `FIRST` on), until `FAILURES` of them have failed, or
//! one in full (`SEED`); `VARIANT` for a broken one.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use sim::{Variant, soak};

const SEEDS: u64 = 1_000_000;
/// As many seeds between two lines of progress.
const PART: u64 = 20_000;

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn main() -> Result<ExitCode> {
    let only = word("ONLY").unwrap_or_default();
    if !only.is_empty() && !only.split(',').any(|id| id.trim() == "T25") {
        println!("ONLY={only}: the soak has T25 only");
        return Ok(ExitCode::SUCCESS);
    }
    let variant = variant()?;
    if let Some(seed) = number("SEED")? {
        let shown = soak::shown(seed, variant, usize::MAX);
        println!("{shown}");
        return Ok(ExitCode::SUCCESS);
    }
    let (first, count) = (
        number("FIRST")?.unwrap_or(0),
        number("SEEDS")?.unwrap_or(SEEDS),
    );
    let failures_max = number("FAILURES")?.unwrap_or(1) as usize;
    let (mut done, mut faults) = (0, 0);
    while done < count {
        let soaked = soak::soak(first + done, PART.min(count - done), failures_max, variant);
        done += soaked.seeds;
        faults += soaked.faults;
        for (seed, wrong) in &soaked.failed {
            println!("seed {seed}: {wrong}");
        }
        if let Some((seed, _)) = soaked.failed.first() {
            println!("{}", soak::shown(*seed, variant, 150));
            return Ok(ExitCode::FAILURE);
        }
        println!("{done} of {count} seeds, {faults} faults: nothing lost, nothing twice");
    }
    Ok(ExitCode::SUCCESS)
}

fn word(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|word| !word.is_empty())
}

fn number(name: &str) -> Result<Option<u64>> {
    let parse = |word: String| {
        word.parse()
            .with_context(|| format!("{name}={word} is no number"))
    };
    word(name).map(parse).transpose()
}

fn variant() -> Result<Variant> {
    let Some(name) = word("VARIANT") else {
        return Ok(Variant::None);
    };
    let found = Variant::ALL
        .into_iter()
        .find(|variant| format!("{variant:?}") == name);
    found.with_context(|| format!("VARIANT={name} is none of {:?}", Variant::ALL))
}
