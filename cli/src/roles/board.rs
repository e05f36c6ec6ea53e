//! What is ready, what it waits for, and what has ended: the answers to `/readyz` and `/healthz`.
//!
//! Whoever starts or watches a part notes it here; what has never been noted is not asked for.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// Why not, in words for an operator.
pub(crate) type Check = Result<(), String>;

/// Shared by those who note and those who ask.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: BTreeMap<&'static str, Check>,
    ended: BTreeMap<&'static str, String>,
    stopping: bool,
}

impl Board {
    /// Whether a part is ready; the first time it is noted it begins to count.
    pub(crate) fn note(&self, part: &'static str, check: Check) {
        self.state.lock().ready.insert(part, check);
    }

    /// A part has ended that should run, and does not come back by itself.
    pub(crate) fn ended(&self, part: &'static str, reason: &str) {
        self.state.lock().ended.insert(part, reason.to_owned());
    }

    /// From now on nothing is ready.
    pub(crate) fn stopping(&self) {
        self.state.lock().stopping = true;
    }

    /// The body of `/readyz` and whether all is well; `more`: what was asked just now.
    pub(crate) fn readiness(&self, more: Vec<(&'static str, Check)>) -> (bool, Value) {
        let state = self.state.lock();
        let mut all = state.ready.clone();
        all.extend(more);
        if state.stopping {
            all.insert("process", Err("stopping".to_owned()));
        }
        for (part, reason) in &state.ended {
            all.insert(part, Err(reason.clone()));
        }
        let ready = all.values().all(Result::is_ok);
        let dependencies: Map<String, Value> = all
            .into_iter()
            .map(|(part, check)| {
                let said = match check {
                    Ok(()) => json!({"ready": true}),
                    Err(reason) => json!({"ready": false, "reason": reason}),
                };
                (part.to_owned(), said)
            })
            .collect();
        (ready, json!({"ready": ready, "dependencies": dependencies}))
    }

    /// The body of `/healthz` and whether the process is of use.
    pub(crate) fn health(&self) -> (bool, Value) {
        let state = self.state.lock();
        if state.ended.is_empty() {
            (true, json!({"status": "ok"}))
        } else {
            (false, json!({"status": "ended", "ended": state.ended}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_by_name() {
        let board = Board::default();
        assert!(board.readiness(Vec::new()).0);
        board.note("kafka", Err("connecting to a:1".to_owned()));
        board.note("topics", Ok(()));
        let (ready, said) = board.readiness(vec![("store", Ok(()))]);
        assert!(!ready);
        assert_eq!(
            said["dependencies"],
            json!({"kafka": {"ready": false, "reason": "connecting to a:1"}, "store": {"ready": true}, "topics": {"ready": true}})
        );
        board.note("kafka", Ok(()));
        assert!(board.readiness(Vec::new()).0);
        assert!(board.health().0);
        board.stopping();
        assert!(
            !board.readiness(Vec::new()).0 && board.health().0,
            "a stop is not ill"
        );
    }

    #[test]
    fn what_has_ended_is_neither_ready_nor_well() {
        let board = Board::default();
        board.note("lanes", Ok(()));
        board.ended("lanes", "a lane has ended");
        assert!(!board.readiness(Vec::new()).0 && !board.health().0);
    }
}
