//! A task that writes the inbox: takes what waits, writes it in one transaction, answers.
//!
//! SQLite has one for all shards, Postgres one for each shard: transactions of one shard would only wait for each other.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{BATCH_RECORDS_MAX, Entry, Put, Sharding, batch, file, server};
use crate::database::Database;
use crate::{Result, StoreError};

/// A row of `inbox_batches` does not grow beyond this, but for a single record.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(super) enum Command {
    Put {
        entry: Entry,
        reply: oneshot::Sender<Result<Put>>,
    },
    Emitted {
        shard: u32,
        up_to: i64,
        reply: oneshot::Sender<Result<()>>,
    },
    Stop,
}

/// Tells, for each shard, of every commit that put something in.
pub(super) type Commits = Arc<[watch::Sender<u64>]>;

/// The counter row of a shard's numbers.
pub(super) fn counter(shard: u32) -> String {
    format!("inbox-{shard}")
}

pub(super) struct Writer {
    database: Arc<Database>,
    sharding: Sharding,
    committed: Commits,
    /// SQLite only.
    memory: file::Memory,
}

/// What one transaction does.
#[derive(Default)]
struct Group {
    puts: Vec<(Entry, oneshot::Sender<Result<Put>>)>,
    emitted: Vec<(u32, i64, oneshot::Sender<Result<()>>)>,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(database: Arc<Database>, sharding: Sharding, committed: Commits) -> Self {
        Self {
            database,
            sharding,
            committed,
            memory: file::Memory::default(),
        }
    }

    /// Runs until it is told to stop, or nobody is left who could tell it anything.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(BATCH_RECORDS_MAX);
        let mut stop = false;
        while !stop && waiting.recv_many(&mut commands, BATCH_RECORDS_MAX).await > 0 {
            let mut group = Group::default();
            let mut failed = None;
            for command in commands.drain(..) {
                match command {
                    Command::Put { entry, reply } => {
                        let size = batch::size(&entry);
                        if !group.puts.is_empty() && group.bytes + size > BATCH_BYTES_MAX {
                            failed = self.commit(std::mem::take(&mut group)).await;
                        }
                        group.bytes += size;
                        group.puts.push((entry, reply));
                    }
                    Command::Emitted {
                        shard,
                        up_to,
                        reply,
                    } => group.emitted.push((shard, up_to, reply)),
                    Command::Stop => stop = true,
                }
            }
            failed = self.commit(group).await.or(failed);
            // Each connection that cannot be had costs seconds: who has waited for them all is not made to wait again.
            if let Some(error @ StoreError::Unavailable { .. }) = failed
                && matches!(&*self.database, Database::Postgres(_))
            {
                stop |= refuse(&mut waiting, &error);
            }
        }
    }

    /// Gives the error, if there was one.
    async fn commit(&mut self, group: Group) -> Option<StoreError> {
        if group.puts.is_empty() && group.emitted.is_empty() {
            return None;
        }
        let (entries, replies): (Vec<_>, Vec<_>) = group.puts.into_iter().unzip();
        let marks: Vec<(u32, i64)> = group
            .emitted
            .iter()
            .map(|(shard, up_to, _)| (*shard, *up_to))
            .collect();
        let outcome = self.write(&entries, &marks).await;
        if let Ok(puts) = &outcome {
            self.tell(&entries, puts);
        }
        // Who does not wait for the answer any more gets none.
        for (index, reply) in replies.into_iter().enumerate() {
            drop(
                reply.send(
                    outcome
                        .as_ref()
                        .map(|puts| puts[index])
                        .map_err(StoreError::clone),
                ),
            );
        }
        for (_, _, reply) in group.emitted {
            drop(reply.send(outcome.as_ref().map(|_| ()).map_err(StoreError::clone)));
        }
        outcome.err()
    }

    async fn write(&mut self, entries: &[Entry], marks: &[(u32, i64)]) -> Result<Vec<Put>> {
        match &*self.database {
            Database::Sqlite(_) => {
                self.memory
                    .write(&self.database, self.sharding, entries, marks)
                    .await
            }
            Database::Postgres(_) => {
                server::write(&self.database, self.sharding, entries, marks).await
            }
        }
    }

    fn tell(&self, entries: &[Entry], puts: &[Put]) {
        for (shard, committed) in (0..).zip(&*self.committed) {
            let mut outcomes = entries.iter().zip(puts);
            let new = outcomes.any(|(entry, put)| {
                *put == Put::New && self.sharding.shard_of(&entry.key) == shard
            });
            if new {
                committed.send_modify(|commits| *commits += 1);
            }
        }
    }
}

/// Answers all that wait now; whether one of them said to stop.
fn refuse(waiting: &mut mpsc::Receiver<Command>, error: &StoreError) -> bool {
    let mut stop = false;
    while let Ok(command) = waiting.try_recv() {
        match command {
            Command::Put { reply, .. } => drop(reply.send(Err(error.clone()))),
            Command::Emitted { reply, .. } => drop(reply.send(Err(error.clone()))),
            Command::Stop => stop = true,
        }
    }
    stop
}
