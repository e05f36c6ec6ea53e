//! The transaction coordinator.

use std::collections::BTreeSet;

use topics::{Outgoing, Position};

use super::{Broker, Claim, Due, MS, Micros, Producer, Refusal};

/// A producer, as it names itself in its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) id: String,
    pub(crate) producer: Producer,
    pub(crate) epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing {
        since: Micros,
    },
    /// The outcome stands; markers are on their way.
    Ending {
        commit: bool,
        markers: usize,
    },
    Ended {
        commit: bool,
    },
}

/// One transactional id.
pub(crate) struct Transaction {
    producer: Producer,
    epoch: u64,
    state: State,
    partitions: BTreeSet<usize>,
    timeout: Micros,
}

impl Broker {
    /// InitProducerId: fences the last owner and aborts what it left open; refused as `Concurrent` until that is done.
    pub(crate) fn take(&mut self, id: &str, timeout: Micros) -> Result<Owner, Refusal> {
        if !self.transactions.contains_key(id) {
            self.producers += 1;
            let transaction = Transaction {
                producer: self.producers,
                epoch: 0,
                state: State::Empty,
                partitions: BTreeSet::new(),
                timeout,
            };
            self.transactions.insert(id.to_owned(), transaction);
        }
        let transaction = self.transactions.get_mut(id).expect("just put there");
        match transaction.state {
            State::Ending { .. } => return Err(Refusal::Concurrent),
            State::Ongoing { .. } => {
                transaction.epoch += 1;
                self.finish(id, false);
                return Err(Refusal::Concurrent);
            }
            State::Empty | State::Ended { .. } => {}
        }
        transaction.epoch += 1;
        transaction.state = State::Empty;
        transaction.timeout = timeout;
        Ok(Owner {
            id: id.to_owned(),
            producer: transaction.producer,
            epoch: transaction.epoch,
        })
    }

    /// Joins the open transaction, or opens one.
    pub(crate) fn begin(&mut self, owner: &Owner) -> Result<(), Refusal> {
        let now = self.now;
        let transaction = self.owned(owner)?;
        match transaction.state {
            State::Ending { .. } => return Err(Refusal::Concurrent),
            State::Ongoing { .. } => {}
            State::Empty | State::Ended { .. } => {
                transaction.state = State::Ongoing { since: now };
            }
        }
        Ok(())
    }

    pub(crate) fn produce(
        &mut self,
        owner: &Owner,
        outgoing: Outgoing,
    ) -> Result<(usize, i64), Refusal> {
        self.begin(owner)?;
        let at = self.route(&outgoing).ok_or(Refusal::State)?;
        self.owned(owner)?.partitions.insert(at);
        Ok((
            at,
            self.logs[at].append(outgoing.record, Some(owner.producer)),
        ))
    }

    /// TxnOffsetCommit. The group checks who it is and the generation; not whose the partitions are.
    pub(super) fn offsets(
        &mut self,
        owner: &Owner,
        claim: Claim,
        positions: &[Position],
    ) -> Result<(), Refusal> {
        self.owned(owner)?;
        if let Some((member, generation)) = claim
            && !self.group.knows(member, generation)
        {
            return Err(Refusal::Moved);
        }
        self.begin(owner)?;
        for position in positions {
            let at = self.find(&position.partition).ok_or(Refusal::State)?;
            let holder = self.group.holder(at);
            if claim.is_none_or(|(member, _)| holder != Some(member)) {
                self.broken.push(format!(
                    "{} commits {} of {}/{}, which it does not own",
                    owner.id,
                    position.next_offset,
                    position.partition.topic,
                    position.partition.number
                ));
            }
            let pending = self.pending.entry(owner.producer).or_default();
            pending.insert(at, position.clone());
        }
        Ok(())
    }

    /// EndTxn: ends whatever transaction of this epoch is open when it comes.
    pub(super) fn end(&mut self, owner: &Owner, commit: bool) -> Result<(), Refusal> {
        match self.owned(owner)?.state {
            State::Ongoing { .. } => {
                self.finish(&owner.id, commit);
                Ok(())
            }
            State::Ending { commit: other, .. } | State::Ended { commit: other }
                if other == commit =>
            {
                Ok(())
            }
            State::Empty | State::Ending { .. } | State::Ended { .. } => Err(Refusal::State),
        }
    }

    fn owned(&mut self, owner: &Owner) -> Result<&mut Transaction, Refusal> {
        let transaction = self.transactions.get_mut(&owner.id);
        let owned = transaction.filter(|t| t.epoch == owner.epoch && t.producer == owner.producer);
        owned.ok_or(Refusal::Fenced)
    }

    /// The outcome stands now; the markers come one by one, later.
    fn finish(&mut self, id: &str, commit: bool) {
        let transaction = self.transactions.get_mut(id).expect("a known id");
        let partitions = std::mem::take(&mut transaction.partitions);
        transaction.state = State::Ending {
            commit,
            markers: partitions.len() + 1,
        };
        let targets = partitions.into_iter().map(Some).chain([None]);
        for partition in targets {
            let wait = if self.random.chance(20_000) {
                self.random.between(MS, 500 * MS)
            } else {
                self.random.between(0, 2 * MS)
            };
            let due = Due::Marker {
                id: id.to_owned(),
                partition,
                commit,
            };
            self.at(self.now + wait, due);
        }
    }

    pub(super) fn mark(&mut self, id: &str, partition: Option<usize>, commit: bool) {
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        let producer = transaction.producer;
        if let State::Ending { markers, .. } = &mut transaction.state {
            *markers -= 1;
            if *markers == 0 {
                transaction.state = State::Ended { commit };
            }
        }
        match partition {
            Some(partition) => self.logs[partition].mark(producer, commit),
            None => {
                let pending = self.pending.remove(&producer).unwrap_or_default();
                for (partition, position) in pending {
                    if commit {
                        self.move_on(partition, position);
                    }
                }
            }
        }
    }

    fn move_on(&mut self, partition: usize, position: Position) {
        let before = self.committed.get(&partition).map_or(0, |p| p.next_offset);
        if position.next_offset < before {
            self.broken.push(format!(
                "the committed offset of {}/{} goes back from {before} to {}",
                position.partition.topic, position.partition.number, position.next_offset
            ));
        }
        self.committed.insert(partition, position);
    }

    /// Transactions that have been open for too long are aborted, and their owners fenced.
    pub(super) fn time_out(&mut self) {
        let now = self.now;
        let late: Vec<String> = self
            .transactions
            .iter()
            .filter(|(_, t)| matches!(t.state, State::Ongoing { since } if since + t.timeout < now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.timeouts += 1;
            if let Some(transaction) = self.transactions.get_mut(&id) {
                transaction.epoch += 1;
            }
            self.finish(&id, false);
        }
    }
}
