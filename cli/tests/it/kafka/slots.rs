//! The sessions that hold the processors' slots are lost under load: slots are claimed anew, and the processes go on.

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use crate::weir::{PATIENCE, until};

const PROCESSES: usize = 2;

#[test]
fn nothing_is_lost_and_nothing_twice_when_slots_are_claimed_anew() {
    let cluster = Cluster::shared();
    let ledger = Ledger::new("slots");
    cluster.apply("slots", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), PROCESSES);
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, 1_000);
    for round in 1..=2 {
        let before = load.sent();
        until("there is load", || load.sent() > before + 1_000);
        assert_eq!(cluster.end_slot_sessions(), PROCESSES);
        until("each has claimed slots anew", || {
            let claims = |process: &Process| process.metric("weir_slots_reclaimed_total", &[]);
            processes
                .iter()
                .all(|process| claims(process) >= f64::from(round))
        });
        until("each is ready again", || {
            processes
                .iter()
                .all(|process| process.get("/readyz").is_some())
        });
    }
    let asked = load.finish();
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    for process in &processes {
        assert!(process.get("/healthz").is_some(), "{}", process.said());
        assert!(process.said().contains("the lanes run again"));
    }
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("slots: {count:?}");
    assert_eq!(count, Count::right(asked));
    assert!(settled);
}
