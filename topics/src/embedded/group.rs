//! Who of a consumer group reads which partition: a pure state machine.
//!
//! Cooperative: a partition that shall move is first taken back from its owner (`Revoked`, and the owner's next poll),
//! then given. So no two members own one at the same time, and the old owner has had its chance to commit.
//! Even and sticky: each topic's partitions are spread as evenly as they go, and no more of them move than must.

use std::collections::{BTreeMap, BTreeSet};

use super::state::LogId;

pub(super) type MemberId = u64;

/// One consumer group.
#[derive(Default, Debug)]
pub(super) struct Group {
    /// What each member reads: the partitions of its topics, by topic.
    members: BTreeMap<MemberId, Vec<Vec<LogId>>>,
    owners: BTreeMap<LogId, Owner>,
    /// Who shall own what; differs from `owners` while partitions move.
    target: BTreeMap<LogId, MemberId>,
    /// Next offset and metadata.
    pub(super) committed: BTreeMap<LogId, (i64, String)>,
}

#[derive(Debug)]
struct Owner {
    member: MemberId,
    /// It has been told; its next poll gives the partition up.
    leaving: bool,
}

impl Group {
    /// A member comes, or its topics have changed.
    pub(super) fn join(&mut self, member: MemberId, topics: Vec<Vec<LogId>>) {
        self.members.insert(member, topics);
        self.balance();
    }

    /// A member goes, and everything it owned is free at once.
    pub(super) fn leave(&mut self, member: MemberId) {
        if self.members.remove(&member).is_some() {
            self.owners.retain(|_, owner| owner.member != member);
            self.balance();
        }
    }

    pub(super) fn has(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    pub(super) fn owns(&self, member: MemberId, log: LogId) -> bool {
        self.owners
            .get(&log)
            .is_some_and(|owner| owner.member == member)
    }

    pub(super) fn owned(&self, member: MemberId) -> Vec<LogId> {
        self.owners
            .iter()
            .filter(|(_, owner)| owner.member == member)
            .map(|(log, _)| *log)
            .collect()
    }

    /// A poll begins: what the member was told to give up is now free. Returns whether anything became free.
    pub(super) fn release(&mut self, member: MemberId) -> Vec<LogId> {
        let gone: Vec<LogId> = self
            .owners
            .iter()
            .filter(|(_, o)| o.member == member && o.leaving)
            .map(|(log, _)| *log)
            .collect();
        for log in &gone {
            self.owners.remove(log);
        }
        gone
    }

    /// What the member has to give up, told once.
    pub(super) fn revoke(&mut self, member: MemberId) -> Vec<LogId> {
        let mut told = Vec::new();
        for (log, owner) in &mut self.owners {
            if owner.member == member && !owner.leaving && self.target.get(log) != Some(&member) {
                owner.leaving = true;
                told.push(*log);
            }
        }
        told
    }

    /// What has become the member's.
    pub(super) fn assign(&mut self, member: MemberId) -> Vec<LogId> {
        let came: Vec<LogId> = self
            .target
            .iter()
            .filter(|(log, to)| **to == member && !self.owners.contains_key(log))
            .map(|(log, _)| *log)
            .collect();
        for log in &came {
            self.owners.insert(
                *log,
                Owner {
                    member,
                    leaving: false,
                },
            );
        }
        came
    }

    fn balance(&mut self) {
        let mut topics = BTreeMap::<LogId, (Vec<LogId>, BTreeSet<MemberId>)>::new();
        for (member, subscribed) in &self.members {
            for logs in subscribed {
                let Some(first) = logs.first() else { continue };
                let entry = topics.entry(*first).or_default();
                entry.0.clone_from(logs);
                entry.1.insert(*member);
            }
        }
        let mut total: BTreeMap<MemberId, usize> =
            self.members.keys().map(|member| (*member, 0)).collect();
        self.target.clear();
        for (logs, members) in topics.values() {
            let mut held: BTreeMap<MemberId, Vec<LogId>> =
                members.iter().map(|member| (*member, Vec::new())).collect();
            let mut free = Vec::new();
            for log in logs {
                match self
                    .owners
                    .get(log)
                    .and_then(|owner| held.get_mut(&owner.member))
                {
                    Some(kept) => kept.push(*log),
                    None => free.push(*log),
                }
            }
            let load = |held: &BTreeMap<MemberId, Vec<LogId>>, member: &MemberId| {
                (held[member].len(), total[member] + held[member].len())
            };
            for log in free {
                let least = *members
                    .iter()
                    .min_by_key(|member| load(&held, member))
                    .expect("a topic here has a member");
                held.entry(least).or_default().push(log);
            }
            loop {
                let most = *members
                    .iter()
                    .max_by_key(|member| load(&held, member))
                    .expect("a topic here has a member");
                let least = *members
                    .iter()
                    .min_by_key(|member| load(&held, member))
                    .expect("a topic here has a member");
                let ((a, a_total), (b, b_total)) = (load(&held, &most), load(&held, &least));
                if a < b + 2 && !(a == b + 1 && a_total >= b_total + 2) {
                    break;
                }
                let moved = held
                    .get_mut(&most)
                    .and_then(Vec::pop)
                    .expect("the one with most has some");
                held.entry(least).or_default().push(moved);
            }
            for (member, logs) in held {
                *total.entry(member).or_default() += logs.len();
                self.target
                    .extend(logs.into_iter().map(|log| (log, member)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(group: &mut Group, members: &[MemberId]) {
        for _ in 0..4 {
            for member in members {
                group.release(*member);
                group.revoke(*member);
                group.assign(*member);
            }
        }
    }

    #[test]
    fn is_even_and_moves_little() {
        let topics = || vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]];
        let mut group = Group::default();
        group.join(1, topics());
        settle(&mut group, &[1]);
        assert_eq!(group.owned(1).len(), 8);
        group.join(2, topics());
        settle(&mut group, &[1, 2]);
        assert_eq!((group.owned(1).len(), group.owned(2).len()), (4, 4));
        let before = group.owned(1);
        group.join(3, topics());
        settle(&mut group, &[1, 2, 3]);
        let counts = [1, 2, 3].map(|m| group.owned(m).len());
        assert!(counts.iter().all(|n| (2..=3).contains(n)), "{counts:?}");
        assert!(
            group.owned(1).iter().all(|log| before.contains(log)),
            "nothing came that was not there before"
        );
        group.leave(2);
        settle(&mut group, &[1, 3]);
        assert_eq!((group.owned(1).len(), group.owned(3).len()), (4, 4));
    }

    #[test]
    fn a_partition_moves_only_after_its_owner_polled_again() {
        let mut group = Group::default();
        group.join(1, vec![vec![0, 1]]);
        group.assign(1);
        group.join(2, vec![vec![0, 1]]);
        assert!(group.assign(2).is_empty(), "not before the owner was told");
        let told = group.revoke(1);
        assert_eq!(told.len(), 1);
        assert!(group.assign(2).is_empty(), "not before it polled again");
        assert!(group.owns(1, told[0]), "it may still commit");
        group.release(1);
        assert_eq!(group.assign(2), told);
    }

    #[test]
    fn more_members_than_partitions_idle() {
        let mut group = Group::default();
        for member in 1..=5 {
            group.join(member, vec![vec![0, 1]]);
        }
        settle(&mut group, &[1, 2, 3, 4, 5]);
        assert_eq!((1..=5).map(|m| group.owned(m).len()).sum::<usize>(), 2);
    }
}
