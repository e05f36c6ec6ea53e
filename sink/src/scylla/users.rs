//! What a batch writes to users' tables.
//!
//! Events of one record that are one row have one time, so they become one write, in which the columns of the later output
//! win. Events of different records stay apart: their times say which is later, and none is lost where a later one lacks a
//! column or is refused.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use scylla::value::{CqlValue, MaybeUnset};

use super::events::EventRow;
use super::open::Open;
use super::route::Routed;
use super::tables::UserTable;
use super::write::Write;
use crate::batch::Batch;
use crate::writes::Target;

pub(super) struct Events {
    /// All that the batch has: places of the landing and of its write.
    pub(super) of: Vec<(usize, usize)>,
    pub(super) writes: Vec<Write>,
    /// By a write's `event`: which of them it writes.
    pub(super) members: Vec<Vec<usize>>,
    /// Which are none, and why.
    pub(super) refused: Vec<(usize, String)>,
}

/// An error: the database does not answer.
pub(super) async fn plan(
    open: &mut Open,
    keyspace: &str,
    batch: &Batch,
    times: &[i64],
) -> Result<Events, String> {
    let events = attempt(open, keyspace, batch, times).await?;
    if events.refused.is_empty() {
        return Ok(events);
    }
    // the table may have got a column since it was looked up
    open.users.refresh(&open.session).await?;
    attempt(open, keyspace, batch, times).await
}

async fn attempt(
    open: &mut Open,
    keyspace: &str,
    batch: &Batch,
    times: &[i64],
) -> Result<Events, String> {
    let mut events = Events {
        of: Vec::new(),
        writes: Vec::new(),
        members: Vec::new(),
        refused: Vec::new(),
    };
    for (place, (landing, time_us)) in batch.landings.iter().zip(times).enumerate() {
        let mut folds: Vec<Fold> = Vec::new();
        for (number, write) in landing.writes.iter().enumerate() {
            let event = events.of.len();
            events.of.push((place, number));
            let table = match &*write.target {
                Target::Scylla { table } => open.users.get(&open.session, keyspace, table).await?,
                Target::Refused(why) => Err(why.clone()),
                Target::Postgres { .. } => {
                    Err("this destination speaks CQL, and the sink is of kind postgres".into())
                }
            };
            match table.and_then(|table| Ok((table.shape.row(&write.data)?, table))) {
                Ok((row, table)) => fold(&mut folds, table, row, event),
                Err(why) => events.refused.push((event, why)),
            }
        }
        for fold in folds {
            let write = fold.write(open, *time_us, events.members.len());
            events.writes.push(write);
            events.members.push(fold.members);
        }
    }
    Ok(events)
}

/// Events of one record that are one row.
struct Fold {
    table: Arc<UserTable>,
    key: Vec<Option<String>>,
    row: EventRow,
    members: Vec<usize>,
}

fn fold(folds: &mut Vec<Fold>, table: Arc<UserTable>, row: EventRow, event: usize) {
    let key = table.shape.key(&row);
    let same = |fold: &&mut Fold| fold.table.shape.table == table.shape.table && fold.key == key;
    if let Some(fold) = folds.iter_mut().find(same) {
        fold.row.merge(row);
        fold.members.push(event);
        return;
    }
    folds.push(Fold {
        table,
        key,
        row,
        members: vec![event],
    });
}

impl Fold {
    fn write(&self, open: &Open, time_us: i64, event: usize) -> Write {
        let json = self.row.json();
        let mut statement = self.table.insert.clone();
        let token = self.table.token(&open.session, &self.row);
        let partition = token.map(|token| {
            let routed = Routed {
                policy: open.policy.clone(),
                token,
                table: self.table.spec(),
            };
            statement.set_load_balancing_policy(Some(Arc::new(routed)));
            let mut hasher = DefaultHasher::new();
            (&self.table.shape.table, token.value()).hash(&mut hasher);
            hasher.finish()
        });
        Write {
            statement,
            bytes: json.len(),
            values: vec![
                MaybeUnset::Set(CqlValue::Text(json)),
                MaybeUnset::Set(CqlValue::BigInt(time_us)),
            ],
            partition,
            event: Some(event),
        }
    }
}
