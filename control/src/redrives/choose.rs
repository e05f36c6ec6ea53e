//! Finds the letters of a request in the history, and makes of each what is to be written or why it cannot be.
//!
//! Bounded: one request takes so many letters and bytes and no more; what is left over is said, and is another request's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Letter, RedriveKind, Repaired};
use topics::Outgoing;

use super::graphs::Graphs;
use super::plan::{self, Redriving};
use super::record;
use crate::history::{DeadLetter, Letters, Original};
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};

/// What one request takes at most.
pub(super) const LETTERS_MAX: usize = 100_000;
const BYTES_MAX: usize = 128 << 20;
/// Letters that are read at once, with their originals.
const PAGE: u32 = 100;
/// Refusals that are told one by one.
const REFUSED_MAX: usize = 100;

/// Which letters.
pub(super) enum Selection {
    Ids(Vec<String>),
    Filter {
        letters: Letters,
        /// Also those that were redriven before.
        all: bool,
    },
}

/// What is told of the letters that were not taken. The store keeps it as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) count: usize,
    /// Id and reason of the first of them.
    pub(super) first: Vec<(String, String)>,
    /// Letters of the filter are left over for another request.
    pub(super) more: bool,
}

impl Refused {
    fn say(&mut self, id: &str, reason: String) {
        self.count += 1;
        if self.first.len() < REFUSED_MAX {
            self.first.push((id.to_owned(), reason));
        }
    }

    pub(super) fn items(&self) -> Vec<Value> {
        let item = |(id, reason): &(String, String)| json!({"id": id, "reason": reason, "message": format!("dead letter \"{id}\": {reason}")});
        self.first.iter().map(item).collect()
    }
}

/// What a request comes to.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) letters: Vec<Letter>,
    pub(super) refused: Refused,
}

/// Finds them, and plans for each what `kind` says.
pub(super) async fn choose(
    state: &ControlState,
    selection: &Selection,
    kind: RedriveKind,
    redriving: Redriving<'_>,
) -> Result<Chosen> {
    let mut choosing = Choosing {
        state,
        kind,
        redriving,
        graphs: Graphs::default(),
        taken: Vec::new(),
        bytes: 0,
        refused: Refused::default(),
    };
    match selection {
        Selection::Ids(ids) => choosing.ids(ids).await?,
        Selection::Filter { letters, all } => choosing.filter(letters, *all).await?,
    }
    // In the order in which they died: what has the same key keeps its order.
    choosing.taken.sort_by_key(|(order, _)| *order);
    let letters = choosing.taken.into_iter().map(|(_, letter)| letter);
    Ok(Chosen {
        letters: letters.collect(),
        refused: choosing.refused,
    })
}

/// When and where it died.
type Order = (i64, Option<(u32, i64)>);

struct Choosing<'a> {
    state: &'a ControlState,
    kind: RedriveKind,
    redriving: Redriving<'a>,
    graphs: Graphs,
    taken: Vec<(Order, Letter)>,
    bytes: usize,
    refused: Refused,
}

impl Choosing<'_> {
    async fn ids(&mut self, ids: &[String]) -> Result<()> {
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for page in distinct.chunks(PAGE as usize) {
            let found = self.state.history.originals_of(TENANT, page).await?;
            for id in page {
                if !found.iter().any(|(letter, _)| letter.id == *id) {
                    let reason = "there is none; see weir dlq list".to_owned();
                    self.refused.say(id, reason);
                }
            }
            let repaired = self.repaired(&found).await?;
            for (letter, original) in found {
                if self.is_full() {
                    return Err(Problem::unprocessable(
                        format!(
                            "these letters come to more than the {BYTES_MAX} bytes that one request takes; ask for fewer at a time"
                        ),
                        Vec::new(),
                    ));
                }
                self.take(letter, &original, &repaired).await?;
            }
        }
        Ok(())
    }

    async fn filter(&mut self, letters: &Letters, all: bool) -> Result<()> {
        let mut after = (i64::MIN, String::new());
        loop {
            let history = &self.state.history;
            let page = history
                .originals(TENANT, letters, (after.0, &after.1), PAGE)
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = (last.died_at_ms, last.id.clone());
            let repaired = self.repaired(&page).await?;
            for (letter, original) in page {
                let of = repaired.get(&letter.id);
                let gone = of.is_some_and(|of| of.purged_at_ms.is_some());
                let again = of.is_some_and(|of| of.redrive.is_some());
                if gone || again && !all && self.kind == RedriveKind::Redrive {
                    continue;
                }
                if self.is_full() {
                    self.refused.more = true;
                    return Ok(());
                }
                self.take(letter, &original, &repaired).await?;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= LETTERS_MAX || self.bytes >= BYTES_MAX
    }

    async fn repaired(
        &self,
        page: &[(DeadLetter, Original)],
    ) -> Result<BTreeMap<String, Repaired>> {
        let ids: Vec<String> = page.iter().map(|(letter, _)| letter.id.clone()).collect();
        Ok(self.state.store.repaired(TENANT, &ids).await?)
    }

    async fn take(
        &mut self,
        mut letter: DeadLetter,
        original: &Original,
        repaired: &BTreeMap<String, Repaired>,
    ) -> Result<()> {
        // What the store knows of a purge, the history may not know yet.
        let purged = repaired.get(&letter.id).and_then(|of| of.purged_at_ms);
        letter.purged_at_ms = letter.purged_at_ms.or(purged);
        let planned = match self.kind {
            RedriveKind::Redrive => self.redrive(&letter, original).await?,
            RedriveKind::Purge => plan::purge(&letter, self.redriving.at_ms),
        };
        match planned {
            Ok(outgoing) => {
                let record = record::encode(&outgoing);
                self.bytes += record.len();
                let order = (letter.died_at_ms, plan::place(&letter.id));
                let taken = Letter {
                    id: letter.id,
                    record,
                };
                self.taken.push((order, taken));
            }
            Err(reason) => self.refused.say(&letter.id, reason),
        }
        Ok(())
    }

    async fn redrive(
        &mut self,
        letter: &DeadLetter,
        original: &Original,
    ) -> Result<Result<Outgoing, String>> {
        let store = &self.state.store;
        if let Some(graph) = &letter.graph {
            self.graphs.learn_graph(store, graph).await?;
        }
        if let Some(version) = plan::version_of(letter, original) {
            self.graphs.learn_version(store, &version).await?;
        }
        Ok(plan::redrive(
            letter,
            original,
            &self.graphs,
            self.redriving,
        ))
    }
}
