//! The one group: members, generations, cooperative rebalances. A partition that moves is first revoked, then released,
//! and only then given to somebody else; a member that falls silent or stops polling loses all of its own at once.

use std::collections::{BTreeMap, VecDeque};

use super::{Broker, MS, Micros};

pub(crate) type MemberId = u64;

/// What a member learns with its next poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Came(Vec<usize>),
    Leaves(Vec<usize>),
}

struct Member {
    subscribed: Vec<usize>,
    news: VecDeque<News>,
    polled: Micros,
    /// When its process stopped, and until when.
    silent: Option<(Micros, Micros)>,
    /// When it hears of the present generation, and the one that it knows till then.
    learns: (Micros, u64),
}

pub(crate) struct Group {
    pub(crate) consumed: Vec<usize>,
    members: BTreeMap<MemberId, Member>,
    holders: BTreeMap<usize, MemberId>,
    leaving: Vec<usize>,
    generation: u64,
    next: MemberId,
    /// When the members will have come together.
    due: Option<Micros>,
    pub(crate) session: Micros,
    pub(crate) max_poll: Micros,
    pub(crate) expelled: u64,
    pub(crate) rebalances: u64,
}

impl Group {
    pub(super) fn new(consumed: Vec<usize>) -> Self {
        Self {
            consumed,
            members: BTreeMap::new(),
            holders: BTreeMap::new(),
            leaving: Vec::new(),
            generation: 0,
            next: 0,
            due: None,
            session: Micros::MAX,
            max_poll: Micros::MAX,
            expelled: 0,
            rebalances: 0,
        }
    }

    pub(crate) fn holder(&self, partition: usize) -> Option<MemberId> {
        self.holders.get(&partition).copied()
    }

    pub(crate) fn is_member(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    pub(super) fn knows(&self, member: MemberId, generation: u64) -> bool {
        self.is_member(member) && generation == self.generation
    }

    /// The generation as the member knows it.
    pub(crate) fn generation(&self, member: MemberId, now: Micros) -> Option<u64> {
        let (when, before) = self.members.get(&member)?.learns;
        Some(if now >= when { self.generation } else { before })
    }

    pub(crate) fn silence(&mut self, member: MemberId, since: Micros, until: Micros) {
        if let Some(member) = self.members.get_mut(&member) {
            let since = member.silent.map_or(since, |(before, _)| before.min(since));
            member.silent = Some((since, until));
        }
    }

    fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.holders.retain(|_, holder| *holder != member);
        let holders = &self.holders;
        self.leaving.retain(|at| holders.contains_key(at));
    }
}

impl Broker {
    pub(crate) fn join(&mut self, topics: &[topics::Topic]) -> MemberId {
        let consumed = self.group.consumed.iter().copied();
        let subscribed = consumed
            .filter(|at| topics.contains(&self.name(*at).topic))
            .collect();
        self.group.next += 1;
        let member = Member {
            subscribed,
            news: VecDeque::new(),
            polled: self.now,
            silent: None,
            learns: (self.now, self.group.generation),
        };
        self.group.members.insert(self.group.next, member);
        self.come_together();
        self.group.next
    }

    pub(crate) fn leave(&mut self, member: MemberId) {
        if self.group.is_member(member) {
            self.group.leave(member);
            self.come_together();
        }
    }

    /// A member polls: what it learns, if it is one still. The news stays until `told`.
    pub(crate) fn poll(&mut self, member: MemberId) -> Option<Option<News>> {
        let now = self.now;
        let member = self.group.members.get_mut(&member)?;
        member.polled = now;
        Some(member.news.front().cloned())
    }

    pub(crate) fn told(&mut self, member: MemberId) {
        if let Some(member) = self.group.members.get_mut(&member) {
            member.news.pop_front();
        }
    }

    /// The member has given these up.
    pub(crate) fn release(&mut self, member: MemberId, partitions: &[usize]) {
        if !self.group.is_member(member) {
            return;
        }
        for at in partitions {
            if self.group.holder(*at) == Some(member) {
                self.group.holders.remove(at);
            }
            self.group.leaving.retain(|leaving| leaving != at);
        }
        self.come_together();
    }

    /// A rebalance begins.
    pub(crate) fn come_together(&mut self) {
        if self.group.due.is_none() {
            let wait = self.random.between(MS, 300 * MS);
            self.group.due = Some(self.now + wait);
        }
    }

    pub(super) fn keep_group(&mut self) {
        let (now, group) = (self.now, &mut self.group);
        let (session, max_poll) = (group.session, group.max_poll);
        let expelled: Vec<MemberId> = group
            .members
            .iter_mut()
            .filter_map(|(id, member)| {
                let over = match member.silent {
                    Some((since, until)) => now.min(until).saturating_sub(since) > session,
                    None => now.saturating_sub(member.polled) > max_poll,
                };
                if member.silent.is_some_and(|(_, until)| until <= now) {
                    member.silent = None;
                }
                over.then_some(*id)
            })
            .collect();
        for member in expelled {
            self.group.expelled += 1;
            self.group.leave(member);
            self.come_together();
        }
        // The coordinator waits for everybody who is not known to be gone.
        let together = self.group.members.values().all(|m| m.silent.is_none());
        if self.group.due.is_some_and(|due| due <= now) && together {
            self.group.due = None;
            self.rebalance();
        }
    }

    fn rebalance(&mut self) {
        let now = self.now;
        let before = self.group.generation;
        self.group.generation += 1;
        self.group.rebalances += 1;
        let ids: Vec<MemberId> = self.group.members.keys().copied().collect();
        for id in &ids {
            let wait = self.random.between(0, 20 * MS);
            if let Some(member) = self.group.members.get_mut(id) {
                let known = if now >= member.learns.0 {
                    before
                } else {
                    member.learns.1
                };
                member.learns = (now + wait, known);
            }
        }
        if ids.is_empty() {
            return;
        }
        let mut came: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        let mut loads: BTreeMap<MemberId, usize> = BTreeMap::new();
        for id in ids {
            loads.insert(id, self.load(id));
        }
        for at in self.group.consumed.clone() {
            if self.group.holder(at).is_none()
                && let Some(least) = self.least(at, &loads)
            {
                self.group.holders.insert(at, least);
                came.entry(least).or_default().push(at);
                *loads.entry(least).or_default() += 1;
            }
        }
        let mut leaves: BTreeMap<MemberId, Vec<usize>> = BTreeMap::new();
        for at in self.group.consumed.clone() {
            let Some(holder) = self.group.holder(at) else {
                continue;
            };
            let new = came.get(&holder).is_some_and(|new| new.contains(&at));
            if new || self.group.leaving.contains(&at) {
                continue;
            }
            let Some(least) = self.least(at, &loads) else {
                continue;
            };
            if loads[&least] + 1 < loads[&holder] {
                self.group.leaving.push(at);
                leaves.entry(holder).or_default().push(at);
                *loads.entry(holder).or_default() -= 1;
                *loads.entry(least).or_default() += 1;
            }
        }
        for (member, partitions) in leaves {
            self.tell(member, News::Leaves(partitions));
        }
        for (member, partitions) in came {
            self.tell(member, News::Came(partitions));
        }
    }

    /// Moves a partition for no reason, as a join and a leave in quick succession would.
    pub(crate) fn stir(&mut self) {
        let held: Vec<(usize, MemberId)> = self
            .group
            .holders
            .iter()
            .filter(|(at, _)| !self.group.leaving.contains(at))
            .map(|(at, member)| (*at, *member))
            .collect();
        if held.is_empty() || self.group.due.is_some() {
            return;
        }
        let (at, member) = held[self.random.index(held.len())];
        self.group.leaving.push(at);
        self.tell(member, News::Leaves(vec![at]));
    }

    fn tell(&mut self, member: MemberId, news: News) {
        if let Some(member) = self.group.members.get_mut(&member) {
            member.news.push_back(news);
        }
    }

    fn load(&self, member: MemberId) -> usize {
        let group = &self.group;
        let held = group.holders.iter();
        held.filter(|(at, holder)| **holder == member && !group.leaving.contains(at))
            .count()
    }

    /// Who of those that want the partition has least to do.
    fn least(&self, at: usize, loads: &BTreeMap<MemberId, usize>) -> Option<MemberId> {
        let members = self.group.members.iter();
        let wanting = members.filter(|(_, member)| member.subscribed.contains(&at));
        wanting.map(|(id, _)| *id).min_by_key(|id| loads.get(id))
    }
}
