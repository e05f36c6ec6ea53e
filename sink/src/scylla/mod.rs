//! Destination kind ScyllaDB, and what else speaks CQL (Cassandra).
//!
//! Promise: every row has its key from its record, and is written with the time of its record: the base of the results
//! partition, fixed once in Weir's store, plus the offset. So a write that is repeated is the same write, and of two writes
//! to a row the one of the later record wins, in whatever order they arrive and whoever sends them: also one of a sink that
//! has lost its partition. A partition's position is written when all of the batch is acknowledged by a quorum, with itself as its
//! time, so it never goes back; a sink that died in between lands the batch again, and nothing changes.
//!
//! What it does not promise: a batch is not seen at once, rows of one partition become visible in any order. A table that
//! others write, too, with the server's times, is theirs to reconcile: they are counted from another clock. With an
//! expiry, rows that are landed again live from then on. What is acknowledged is as durable as the
//! cluster makes it.

mod days;
mod erase;
mod events;
mod open;
mod route;
mod rows;
mod settings;
mod tables;
mod times;
mod users;
mod write;

use scylla::value::{CqlValue, MaybeUnset};
use tokio::runtime::Runtime;
use topics::Partition;

use crate::batch::{Batch, Row};
use crate::destination::{Kind, Landed, Options, Stored};
use crate::error::SinkError;
use days::Days;
use open::Open;
use times::Base;
use write::Write;

pub use settings::{ScyllaSettings, Tls};
pub use times::WriteTimes;

/// An open destination. One thread owns it. The session is made when it is first needed, and anew after any error: nodes may
/// have come back at other addresses, tables may be gone.
pub struct Scylla {
    runtime: Runtime,
    settings: ScyllaSettings,
    options: Options,
    times: WriteTimes,
    open: Option<Open>,
}

impl Scylla {
    /// Speaks to nobody yet.
    pub fn new(
        settings: ScyllaSettings,
        options: Options,
        times: WriteTimes,
    ) -> Result<Self, SinkError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sink-scylla")
            .enable_all()
            .build()
            .map_err(SinkError::Thread)?;
        Ok(Self {
            runtime,
            settings,
            options,
            times,
            open: None,
        })
    }

    /// What is wrong with a user's table that a graph's sink names, each in a sentence; the outer error says that the
    /// database does not answer. Within a runtime.
    pub async fn check(settings: &ScyllaSettings, table: &str) -> Result<Vec<String>, String> {
        let session = settings.session(settings.policy())?.build().await;
        let session = session.map_err(|e| e.to_string())?;
        let found = tables::find(&session, &settings.keyspace, table);
        Ok(found.err().into_iter().collect())
    }
}

impl Kind for Scylla {
    fn position(&mut self, partition: &Partition) -> Result<Option<i64>, SinkError> {
        self.times.forget(partition);
        let base = self.times.base(partition, &self.options.name)?;
        let Self {
            runtime,
            settings,
            options,
            open,
            ..
        } = self;
        let found = runtime.block_on(async {
            let open = opened(&mut *open, settings, options).await?;
            position(open, partition, &base).await
        });
        found.map_err(|reason| {
            *open = None;
            unavailable(options, reason)
        })
    }

    fn land(&mut self, batch: &Batch, stored: &mut Stored) -> Result<Landed, SinkError> {
        // before anything is sent: the store may not answer
        let mut bases = Vec::with_capacity(batch.progress.len());
        for progress in &batch.progress {
            bases.push(self.times.base(&progress.partition, &self.options.name)?);
        }
        let Self {
            runtime,
            settings,
            options,
            open,
            ..
        } = self;
        let landed = runtime.block_on(async {
            let open = opened(&mut *open, settings, options).await?;
            land(open, &settings.keyspace, options.history, batch, &bases).await
        });
        let landed = landed.map_err(|reason| {
            *open = None;
            unavailable(options, reason)
        })?;
        for progress in &batch.progress {
            stored.insert(progress.partition.clone(), progress.next);
        }
        Ok(landed)
    }
}

fn unavailable(options: &Options, reason: String) -> SinkError {
    SinkError::Unavailable {
        destination: options.name.clone(),
        reason,
    }
}

async fn opened<'a>(
    open: &'a mut Option<Open>,
    settings: &ScyllaSettings,
    options: &Options,
) -> Result<&'a mut Open, String> {
    match open {
        Some(open) => Ok(open),
        None => Ok(open.insert(Open::open(settings, options).await?)),
    }
}

async fn position(open: &Open, partition: &Partition, base: &Base) -> Result<Option<i64>, String> {
    let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
    let values = (&*partition.topic, number, &*base.topic_id);
    let found = open.session.execute_unpaged(&open.positions.select, values);
    let found = found.await.map_err(|e| e.to_string())?;
    let rows = found.into_rows_result().map_err(|e| e.to_string())?;
    let row = rows.maybe_first_row::<(Option<i64>,)>();
    Ok(row.map_err(|e| e.to_string())?.and_then(|(next,)| next))
}

/// `bases`: one per partition of the batch, in its order.
async fn land(
    open: &mut Open,
    keyspace: &str,
    history: bool,
    batch: &Batch,
    bases: &[Base],
) -> Result<Landed, String> {
    let times = batch.landings.iter().map(|landing| {
        let from = &landing.from;
        let of = batch.progress.iter().zip(bases);
        of.filter(|(progress, _)| progress.partition == from.partition)
            .map(|(_, base)| base.time_us(from.offset))
            .next()
            .expect("a batch notes the progress of each of its landings")
    });
    let times: Vec<i64> = times.collect();
    #[cfg(feature = "broken")]
    let times = crate::broken::times(batch, times);
    #[cfg(feature = "broken")]
    if crate::broken::is("position-outside") {
        open.send(positions(open, batch, bases)).await?;
        crate::broken::kill_at("before-commit");
    }

    let mut rows = Vec::new();
    let mut days = Days::default();
    for (landing, time_us) in batch.landings.iter().zip(&times) {
        rows::of_landing(landing, history, *time_us, &mut rows);
        days.of_landing(landing, history, *time_us);
    }
    let events = users::plan(open, keyspace, batch, &times).await?;
    let mut writes: Vec<Write> = rows.drain(..).filter_map(|row| open.write(row)).collect();
    writes.extend(events.writes);
    let mut landed = Landed {
        rows: writes.len() as u64,
        dead: 0,
    };

    let mut refused = events.refused;
    for event in open.send(writes).await? {
        // those of one record that are one row die together
        let members = events.members[event.event].iter();
        refused.extend(members.map(|place| (*place, event.reason.clone())));
        landed.rows -= 1;
    }
    for (place, reason) in refused {
        let (landing, write) = events.of[place];
        let (from, time_us) = (&batch.landings[landing].from, times[landing]);
        let write = &batch.landings[landing].writes[write];
        rows::refused(write, &reason, from, time_us, &mut rows);
        days.letter(&write.result.tenant, from, time_us);
        landed.dead += 1;
    }
    let letters = rows.drain(..).filter_map(|row| open.write(row)).collect();
    open.send(letters).await?;
    // a day is told when its rows are there
    let days = days.rows().filter_map(|row| open.write(row)).collect();
    open.send(days).await?;

    if history {
        purge(open, batch, &times).await?;
    }
    #[cfg(feature = "broken")]
    if !crate::broken::is("position-outside") {
        crate::broken::kill_at("before-commit");
    }
    open.send(positions(open, batch, bases)).await?;
    #[cfg(feature = "broken")]
    crate::broken::kill_at("after-commit");
    Ok(landed)
}

/// How far the batch's partitions have landed with it.
fn positions(open: &Open, batch: &Batch, bases: &[Base]) -> Vec<Write> {
    let positions = batch.progress.iter().zip(bases).map(|(progress, base)| {
        let Partition { topic, number } = &progress.partition;
        let values = [
            CqlValue::Text(topic.to_string()),
            CqlValue::Int(i32::try_from(*number).unwrap_or(i32::MAX)),
            CqlValue::Text(base.topic_id.to_string()),
            CqlValue::BigInt(progress.next),
            CqlValue::BigInt(progress.next),
        ];
        Write {
            statement: open.positions.insert.clone(),
            values: values.map(MaybeUnset::Set).into(),
            bytes: 0,
            partition: None,
            event: None,
        }
    });
    positions.collect()
}

/// The letters stay as rows that say what they were; their bytes go. The first purge counts. One is purged after it has been written,
/// whatever the times of the two partitions are.
async fn purge(open: &Open, batch: &Batch, times: &[i64]) -> Result<(), String> {
    for (landing, time_us) in batch.landings.iter().zip(times) {
        let Row::Purge(letter) = &landing.row else {
            continue;
        };
        let found = open.session.execute_unpaged(&open.purges.select, (letter,));
        let found = found.await.map_err(|e| e.to_string())?;
        let rows = found.into_rows_result().map_err(|e| e.to_string())?;
        let row = rows.maybe_first_row::<(Option<i64>, Option<i64>)>();
        let Some((None, Some(written_us))) = row.map_err(|e| e.to_string())? else {
            continue;
        };
        let time_us = (*time_us).max(written_us + 1);
        let values = (time_us, landing.from.record.timestamp_ms, letter);
        let purged = open.session.execute_unpaged(&open.purges.update, values);
        purged.await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
