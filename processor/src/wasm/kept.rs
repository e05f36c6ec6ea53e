//! The instances that a worker keeps for isolation `batch`: the last few in a list, which a graph's steps find at once, the others by a
//! hash of what they serve. Bounded: the least recently used go first.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::call::Call;
use super::instance::Instance;
use super::module::Module;

/// The list's length: longer than most graphs' chains of steps.
const FRONT: usize = 8;

/// Memory that instances behind the list hold at most, about: their address space, of which mostly little is ever touched.
const BYTES_MAX: u64 = 1 << 30;

pub(super) struct Kept {
    module: u64,
    tenant: Box<str>,
    graph: Box<str>,
    version: Box<str>,
    step: Box<str>,
    pub(super) instance: Instance,
}

impl Kept {
    pub(super) fn new(module: &Module, call: &Call<'_>, instance: Instance) -> Self {
        Self {
            module: module.inner.id,
            tenant: call.tenant.into(),
            graph: call.graph.into(),
            version: call.version.into(),
            step: call.step.into(),
            instance,
        }
    }

    /// Equal hashes are not enough: an instance never serves another tenant.
    fn serves(&self, module: &Module, call: &Call<'_>) -> bool {
        self.module == module.inner.id
            && *self.step == *call.step
            && *self.version == *call.version
            && *self.graph == *call.graph
            && *self.tenant == *call.tenant
    }

    fn hash(&self) -> u64 {
        hash(
            self.module,
            [&self.step, &self.version, &self.graph, &self.tenant],
        )
    }
}

fn hash(module: u64, names: [&str; 4]) -> u64 {
    let mut hasher = DefaultHasher::new();
    module.hash(&mut hasher);
    names.hash(&mut hasher);
    hasher.finish()
}

/// Kept instances. Behind the list two generations: what is found in the old one becomes young again, and when the young one is full the
/// old one is dropped.
pub(super) struct Instances {
    max: usize,
    /// Memory of the young generation, as its instances had it when they came.
    young_bytes: u64,
    /// Most recently used last.
    front: Vec<Kept>,
    young: HashMap<u64, Kept>,
    old: HashMap<u64, Kept>,
}

impl Instances {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            young_bytes: 0,
            front: Vec::new(),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.front.len() + self.young.len() + self.old.len()
    }

    pub(super) fn clear(&mut self) {
        self.front.clear();
        self.young.clear();
        self.old.clear();
    }

    /// The instance that serves this call; it is the last used one from now on.
    pub(super) fn find(&mut self, module: &Module, call: &Call<'_>) -> Option<&mut Kept> {
        // the last one used is the likeliest
        if let Some(at) = self
            .front
            .iter()
            .rposition(|kept| kept.serves(module, call))
        {
            if at + 1 < self.front.len() {
                self.front[at..].rotate_left(1);
            }
            return self.front.last_mut();
        }
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        let names = [call.step, call.version, call.graph, call.tenant];
        let hash = hash(module.inner.id, names);
        let found = self.young.remove(&hash).or_else(|| self.old.remove(&hash));
        // one that merely has the same hash makes way
        let kept = found.filter(|kept| kept.serves(module, call))?;
        self.push(kept);
        self.front.last_mut()
    }

    /// Keeps one more.
    pub(super) fn put(&mut self, kept: Kept) {
        if self.max > 0 {
            self.push(kept);
        }
    }

    fn push(&mut self, kept: Kept) {
        let front = FRONT.min(self.max);
        if self.front.len() >= front {
            let last = self.front.remove(0);
            let half = (self.max - front) / 2;
            if half > 0 {
                if self.young.len() >= half || self.young_bytes >= BYTES_MAX / 2 {
                    self.old = std::mem::take(&mut self.young);
                    self.young_bytes = 0;
                }
                self.young_bytes += last.instance.state().memory.used;
                self.young.insert(last.hash(), last);
            }
        }
        self.front.push(kept);
    }

    /// Gives up the one that `find` gave last.
    pub(super) fn drop_last(&mut self) {
        self.front.pop();
    }

    /// Gives up one that merely waits; `false`: there is none.
    pub(super) fn make_room(&mut self) -> bool {
        for map in [&mut self.old, &mut self.young] {
            if let Some(hash) = map.keys().next().copied() {
                map.remove(&hash);
                return true;
            }
        }
        if self.front.is_empty() {
            return false;
        }
        self.front.remove(0);
        true
    }
}
