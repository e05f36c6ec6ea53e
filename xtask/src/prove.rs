//! `make prove`: runs the fault tests at their full size, and keeps what they counted in target/prove.json.
//!
//! Each proof is a test of the workspace; it writes its row where `WEIR_PROOFS` says. A partial run replaces its own rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A proof: its id, the test that is it, and the environment that makes it full size.
struct Proof {
    id: &'static str,
    test: &'static str,
    env: &'static [(&'static str, &'static str)],
}

const PROOFS: &[Proof] = &[
    Proof {
        id: "L1",
        test: "kill::nothing_is_lost_and_nothing_twice_when_weir_is_killed",
        env: &[("WEIR_TEST_TRIGGERS", "20000"), ("WEIR_TEST_KILLS", "10")],
    },
    Proof {
        id: "L2",
        test: "kill::the_checker_catches_offsets_committed_outside_the_transaction",
        env: &[],
    },
    Proof {
        id: "T25",
        test: "seeds::nothing_is_lost_or_doubled_in_ten_thousand_seeds",
        env: &[],
    },
    Proof {
        id: "T6",
        test: "kafka_proxy::storm::nothing_is_lost_and_nothing_twice_whatever_happens_to_a_transactions_requests",
        env: &[("WEIR_TEST_FAULTS", "500")],
    },
    Proof {
        id: "T6c",
        test: "kafka_proxy::late::a_late_copy_harms_a_lane_as_little_as_it_harms_a_plain_loop_much",
        env: &[],
    },
    Proof {
        id: "T7",
        test: "kafka_proxy::storm::a_commit_whose_answer_is_lost_is_settled_by_a_new_producer",
        env: &[("WEIR_TEST_FAULTS", "200")],
    },
    kafka(
        "T1",
        "kafka::kill::nothing_is_lost_and_nothing_twice_when_processors_are_killed",
    ),
    kafka(
        "T3",
        "kafka::kill::nothing_is_lost_and_nothing_twice_when_brokers_are_killed",
    ),
    kafka(
        "T4",
        "kafka::storm::nothing_is_lost_and_nothing_twice_while_members_come_and_go",
    ),
    kafka("T5", "kafka::zombie::a_zombie_s_transaction_is_rejected"),
    kafka(
        "T8",
        "kafka::zombie::a_lane_held_up_in_its_transaction_runs_its_batch_again",
    ),
    kafka(
        "T9",
        "kafka::hanging::a_stranger_s_open_transaction_raises_an_alarm_and_is_got_over",
    ),
    kafka(
        "T1b",
        "kafka::detours::hops_and_delays_are_run_once_while_processors_are_killed",
    ),
    kafka(
        "T11",
        "kafka::avro::poison_becomes_dead_letters_and_an_outage_of_the_registry_only_waits",
    ),
    kafka(
        "T12",
        "kafka::redrive::each_letter_is_redriven_once_when_the_process_that_writes_them_is_killed",
    ),
    kafka(
        "T17",
        "kafka::deploys::each_trigger_runs_on_one_version_and_none_goes_back_while_versions_are_deployed",
    ),
    kafka(
        "T17b",
        "kafka::pauses::what_is_parked_runs_once_and_in_order_while_processors_are_killed",
    ),
    kafka(
        "T2",
        "kafka::sinks::kills::each_result_is_a_row_once_when_the_sink_is_killed_around_its_commits",
    ),
    kafka(
        "T19",
        "kafka::sinks::outage::a_database_that_is_down_holds_up_itself_alone",
    ),
    kafka(
        "T28",
        "kafka::sinks::updates::the_last_update_of_each_key_stands",
    ),
    kafka(
        "T10",
        "hostile::bad_steps_become_dead_letters_and_neighbours_hardly_notice",
    ),
    kafka("T18", "determinism::past_triggers_give_the_same_bytes"),
    kafka("T23", "web::nothing_inside_is_reached"),
    kafka("T27", "fuzz::whatever_parsers_are_given"),
    kafka("T27p", "fuzz::whatever_parsers_of_the_processor_are_given"),
    kafka("S3", "payloads::a_bucket"),
    kafka("G2", "steps::every_language_builds_and_runs"),
    kafka("G1", "guests::all_components_are_built_again_byte_by_byte"),
    kafka("T26", "kafka::variants::each_broken_variant_is_caught"),
];

/// One whose test takes `WEIR_PROOFS` for the wish to be full size.
const fn kafka(id: &'static str, test: &'static str) -> Proof {
    Proof { id, test, env: &[] }
}

/// `only`: comma-separated ids; empty for all. `true`: all that ran have passed.
pub fn run(root: &Path, only: &str) -> Result<bool> {
    let rows = root.join("target/proofs");
    if rows.is_dir() {
        std::fs::remove_dir_all(&rows)?;
    }
    std::fs::create_dir_all(&rows)?;
    let wanted: Vec<&str> = only
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .collect();
    let mut passed = true;
    for proof in PROOFS
        .iter()
        .filter(|proof| wanted.is_empty() || wanted.contains(&proof.id))
    {
        let status = Command::new("cargo")
            .args([
                "test",
                "--release",
                "-q",
                "--workspace",
                "--test",
                "it",
                "--",
                "--exact",
                // those that only `make prove` has the time for
                "--include-ignored",
                "--nocapture",
                proof.test,
            ])
            .envs(proof.env.iter().copied())
            .env("WEIR_PROOFS", &rows)
            .current_dir(root)
            .status()
            .context("cannot run cargo test")?;
        passed &= status.success() && rows.join(format!("{}.json", proof.id)).is_file();
    }
    let report = root.join("target/prove.json");
    let all = merge(&report, &rows)?;
    std::fs::write(&report, serde_json::to_string_pretty(&all)?)?;
    table(&all);
    Ok(passed)
}

/// The rows of earlier runs, with those of this one in their place.
fn merge(report: &Path, rows: &Path) -> Result<Vec<Value>> {
    let mut all = BTreeMap::new();
    let earlier = std::fs::read(report)
        .ok()
        .and_then(|text| serde_json::from_slice::<Vec<Value>>(&text).ok());
    let mut put = |row: Value| all.insert(row["id"].to_string(), row);
    for row in earlier.unwrap_or_default() {
        put(row);
    }
    for entry in std::fs::read_dir(rows)? {
        put(serde_json::from_slice(&std::fs::read(entry?.path())?)?);
    }
    Ok(all.into_values().collect())
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn table(rows: &[Value]) {
    println!(
        "\n{:<4} {:<8} {:>9} {:>6} {:>11} {:>8} {:>11}  title",
        "id", "passed", "injected", "lost", "duplicated", "seconds", "seed"
    );
    for row in rows {
        let cell = |name: &str| {
            row[name]
                .as_str()
                .map_or_else(|| row[name].to_string(), str::to_owned)
        };
        println!(
            "{:<4} {:<8} {:>9} {:>6} {:>11} {:>8} {:>11}  {}: {}",
            cell("id"),
            cell("passed"),
            cell("injected"),
            cell("lost"),
            cell("duplicated"),
            cell("seconds"),
            cell("seed"),
            cell("title"),
            cell("expected")
        );
    }
}
