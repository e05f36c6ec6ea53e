//! What is remembered of schemas that are not known, and when the registry is asked again. Pure: the time is an argument,
//! as a duration since any moment.
//!
//! Nothing here runs by itself: a schema is asked for when somebody looks for it and its time has come. Lanes look often,
//! and a schema that nobody looks for costs no requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::framing::SchemaId;

/// A registry may answer from a replica that has not caught up: only what is missing for so long is not there.
const MISSING: Duration = Duration::from_secs(5);
/// After this it may have been registered.
const NOT_KEPT: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two questions for a schema that is missing so far.
const WAIT_MISSING_MAX: Duration = Duration::from_secs(1);
/// Between two requests, for whatever schemas, while the registry is down.
const DOWN_EVERY: Duration = Duration::from_secs(1);
const UNDER_WAY_MAX: usize = 8;
/// Ids come from whoever may write to a topic.
const ENTRIES_MAX: usize = 10_000;

/// What the registry answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Kept elsewhere.
    Schema,
    /// It knows no such schema (yet).
    Missing(String),
    /// It is there, and of no use.
    Not(String),
    /// This schema cannot be asked for just now; others may.
    Refused(String),
    /// Nothing can be asked for just now.
    Outage(String),
}

/// What to say of a schema that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Not(Arc<str>),
    /// `ask`: the caller asks the registry, and tells `heard`.
    Asking {
        reason: Arc<str>,
        ask: bool,
    },
}

enum Entry {
    Asking(Asking),
    Not { reason: Arc<str>, until: Duration },
}

struct Asking {
    reason: Arc<str>,
    under_way: bool,
    next: Duration,
    wait: Duration,
    missing_since: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Memory {
    entries: HashMap<SchemaId, Entry>,
    under_way: usize,
    down: Option<Down>,
}

/// The registry as a whole.
struct Down {
    reason: Arc<str>,
    next: Duration,
}

impl Memory {
    pub(super) fn look(&mut self, id: SchemaId, now: Duration) -> Look {
        if let Some(Entry::Not { reason, until }) = self.entries.get(&id) {
            if now < *until {
                return Look::Not(reason.clone());
            }
            self.entries.remove(&id);
        }
        if !self.entries.contains_key(&id) && !self.room(now) {
            return Look::Asking {
                reason: format!(
                    "schema {id} waits: {ENTRIES_MAX} other schemas are being asked for"
                )
                .into(),
                ask: false,
            };
        }
        let new = || {
            Entry::Asking(Asking {
                reason: format!("schema {id} is being asked for").into(),
                under_way: false,
                next: now,
                wait: WAIT_MIN,
                missing_since: None,
            })
        };
        let Entry::Asking(asking) = self.entries.entry(id).or_insert_with(new) else {
            unreachable!("what is not has been removed above");
        };
        let mut ask = !asking.under_way && now >= asking.next && self.under_way < UNDER_WAY_MAX;
        if let Some(down) = &mut self.down {
            ask &= now >= down.next;
            if ask {
                down.next = now + DOWN_EVERY;
            } else if !asking.under_way {
                asking.reason = down.reason.clone();
            }
        }
        if ask {
            asking.under_way = true;
            self.under_way += 1;
        }
        Look::Asking {
            reason: asking.reason.clone(),
            ask,
        }
    }

    /// Room for one more; what nobody has looked for in a while goes.
    fn room(&mut self, now: Duration) -> bool {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, entry| match entry {
                Entry::Asking(asking) => asking.under_way || now < asking.next + NOT_KEPT,
                Entry::Not { until, .. } => now < *until,
            });
        }
        self.entries.len() < ENTRIES_MAX
    }

    /// After each `ask`.
    pub(super) fn heard(&mut self, id: SchemaId, heard: Heard, now: Duration) {
        self.under_way = self.under_way.saturating_sub(1);
        match &heard {
            Heard::Outage(reason) => {
                let next = now + DOWN_EVERY;
                self.down = Some(Down {
                    reason: reason.as_str().into(),
                    next,
                });
            }
            _ => self.down = None,
        }
        let Some(Entry::Asking(asking)) = self.entries.get_mut(&id) else {
            return;
        };
        asking.under_way = false;
        let (reason, wait_max) = match heard {
            Heard::Schema => {
                self.entries.remove(&id);
                return;
            }
            Heard::Not(reason) => {
                self.not(id, reason, now);
                return;
            }
            Heard::Missing(reason) => {
                let since = *asking.missing_since.get_or_insert(now);
                if now - since >= MISSING {
                    self.not(id, reason, now);
                    return;
                }
                (reason, WAIT_MISSING_MAX)
            }
            Heard::Refused(reason) | Heard::Outage(reason) => (reason, WAIT_MAX),
        };
        asking.reason = reason.into();
        asking.next = now + asking.wait.min(wait_max);
        asking.wait = (asking.wait * 2).min(WAIT_MAX);
    }

    fn not(&mut self, id: SchemaId, reason: String, now: Duration) {
        let (reason, until) = (reason.into(), now + NOT_KEPT);
        self.entries.insert(id, Entry::Not { reason, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SchemaId = SchemaId::Number(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn asked(look: Look) -> bool {
        matches!(look, Look::Asking { ask: true, .. })
    }

    /// Looks every 10 ms until `until`; answers each question at once; gives the times of the questions.
    fn questions(memory: &mut Memory, from: u64, until: u64, answer: &Heard) -> Vec<u64> {
        let mut times = Vec::new();
        for at in (from..until).step_by(10) {
            if asked(memory.look(ID, ms(at))) {
                memory.heard(ID, answer.clone(), ms(at));
                times.push(at);
            }
        }
        times
    }

    #[test]
    fn one_question_at_a_time() {
        let mut memory = Memory::default();
        assert!(asked(memory.look(ID, ms(0))));
        assert!(!asked(memory.look(ID, ms(60_000))), "it is under way");
        memory.heard(ID, Heard::Schema, ms(60_000));
        assert!(asked(memory.look(ID, ms(60_000))), "known, or forgotten");
    }

    #[test]
    fn missing_counts_after_a_while_and_is_forgotten() {
        let mut memory = Memory::default();
        let missing = Heard::Missing("no schema 1".into());
        let times = questions(&mut memory, 0, 20_000, &missing);
        assert_eq!(times, [0, 100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500]);
        assert_eq!(memory.look(ID, ms(65_499)), Look::Not("no schema 1".into()));
        assert!(asked(memory.look(ID, ms(65_500))));
        memory.heard(ID, missing, ms(65_500));
        assert!(
            matches!(memory.look(ID, ms(65_510)), Look::Asking { .. }),
            "from the beginning"
        );
    }

    #[test]
    fn an_outage_never_counts_as_not() {
        let mut memory = Memory::default();
        let outage = Heard::Outage("it does not answer".into());
        let times = questions(&mut memory, 0, 3_600_000, &outage);
        assert!(times.len() > 600, "{}", times.len());
        assert!(times.windows(2).all(|two| two[1] - two[0] >= 1_000));
        assert!(times.windows(2).all(|two| two[1] - two[0] <= 5_010));
        let missing = Heard::Missing("no schema 1".into());
        let times = questions(&mut memory, 3_600_000, 3_620_000, &missing);
        assert!(times.len() > 3, "asked again: {times:?}");
        assert_eq!(
            memory.look(ID, ms(3_620_000)),
            Look::Not("no schema 1".into())
        );
        let mut memory = Memory::default();
        let refused = Heard::Refused("403".into());
        assert!(questions(&mut memory, 0, 100_000, &refused).len() > 15);
        assert!(matches!(memory.look(ID, ms(100_000)), Look::Asking { .. }));
    }

    #[test]
    fn a_registry_that_is_down_is_asked_once_a_second() {
        let mut memory = Memory::default();
        let mut count = 0;
        for at in (0..10_000).step_by(5) {
            for number in 0..500 {
                let id = SchemaId::Number(number);
                if asked(memory.look(id, ms(at))) {
                    count += 1;
                    memory.heard(id, Heard::Outage("down".into()), ms(at));
                }
            }
        }
        assert!((9..=11).contains(&count), "{count}");
        let at = ms(12_000);
        let first = (0..500).find(|number| asked(memory.look(SchemaId::Number(*number), at)));
        let first = SchemaId::Number(first.expect("one of them"));
        let waits = Look::Asking {
            reason: "down".into(),
            ask: false,
        };
        assert_eq!(memory.look(SchemaId::Number(499), at), waits);
        memory.heard(first, Heard::Outage("down".into()), at);
        // what comes back is asked for everything at once
        let at = ms(20_000);
        assert!(asked(memory.look(ID, at)));
        memory.heard(ID, Heard::Schema, at);
        assert!((2..8).all(|number| asked(memory.look(SchemaId::Number(number), at))));
    }

    #[test]
    fn few_requests_are_under_way() {
        let mut memory = Memory::default();
        let count = (0..100)
            .filter(|number| asked(memory.look(SchemaId::Number(*number), ms(0))))
            .count();
        assert_eq!(count, UNDER_WAY_MAX);
        memory.heard(SchemaId::Number(0), Heard::Schema, ms(1));
        assert!(asked(memory.look(SchemaId::Number(99), ms(1))));
    }

    #[test]
    fn ids_from_nobody_are_bounded() {
        let mut memory = Memory::default();
        for number in 0..2 * ENTRIES_MAX as u32 {
            memory.look(SchemaId::Number(number), ms(0));
        }
        assert_eq!(memory.entries.len(), ENTRIES_MAX);
        let Look::Asking { reason, ask: false } = memory.look(SchemaId::Number(u32::MAX), ms(1))
        else {
            panic!("it waits");
        };
        assert!(reason.contains("waits"), "{reason}");
        assert!(memory.room(ms(70_000)), "nobody has looked for them");
    }
}
