//! The threads of a lane for records whose steps wait for answers of HTTP: many, since each mostly sleeps. Records of one key run one after
//! the other, in their order; all others side by side. Threads are started as they are needed.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use topics::Fetched;

use crate::execute::Executor;

/// Runs jobs; `Run` is told what to do with one.
pub(crate) struct Crew<J: Send + 'static> {
    shared: Arc<Shared<J>>,
    name: String,
    threads_max: usize,
    start: Box<dyn Fn() -> Executor + Send + Sync>,
    run: fn(&mut Executor, J),
}

struct Shared<J> {
    state: Mutex<State<J>>,
    work: Condvar,
}

struct State<J> {
    queue: Queue<J>,
    threads: usize,
    idle: usize,
    stop: bool,
}

/// Jobs by their key. Pure.
struct Queue<J> {
    /// Keys of which a job may run now.
    ready: VecDeque<u64>,
    /// Keys that are ready or of which one runs, and what waits of them.
    waiting: HashMap<u64, VecDeque<J>>,
}

impl<J> Queue<J> {
    fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }

    /// Whether another job may run now.
    fn push(&mut self, key: u64, job: J) -> bool {
        let fresh = !self.waiting.contains_key(&key);
        self.waiting.entry(key).or_default().push_back(job);
        if fresh {
            self.ready.push_back(key);
        }
        fresh
    }

    fn take(&mut self) -> Option<(u64, J)> {
        while let Some(key) = self.ready.pop_front() {
            match self.waiting.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(job) => return Some((key, job)),
                None => {
                    self.waiting.remove(&key);
                }
            }
        }
        None
    }

    /// The job of this key has ended; whether another job may run now.
    fn done(&mut self, key: u64) -> bool {
        match self.waiting.get(&key) {
            Some(jobs) if !jobs.is_empty() => {
                self.ready.push_back(key);
                true
            }
            _ => {
                self.waiting.remove(&key);
                false
            }
        }
    }

    /// Nothing of what waits is wanted any more.
    fn clear(&mut self) {
        // what runs at the moment keeps its key: its successors wait for it
        let ready: Vec<u64> = self.ready.drain(..).collect();
        for key in ready {
            self.waiting.remove(&key);
        }
        for jobs in self.waiting.values_mut() {
            jobs.clear();
        }
    }
}

impl<J: Send + 'static> Crew<J> {
    /// `start`: what each thread runs with.
    pub(crate) fn new(
        name: String,
        threads_max: usize,
        start: Box<dyn Fn() -> Executor + Send + Sync>,
        run: fn(&mut Executor, J),
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    queue: Queue::new(),
                    threads: 0,
                    idle: 0,
                    stop: false,
                }),
                work: Condvar::new(),
            }),
            name,
            threads_max: threads_max.max(1),
            start,
            run,
        }
    }

    /// An error: no thread could be started, and there is none yet.
    pub(crate) fn push(&self, record: &Fetched, job: J) -> std::io::Result<()> {
        let mut state = self.shared.state.lock();
        let more = state.queue.push(key_of(record), job);
        if more && state.idle > 0 {
            state.idle -= 1;
            self.shared.work.notify_one();
        } else if more && state.threads < self.threads_max {
            let (shared, executor, run) = (self.shared.clone(), (self.start)(), self.run);
            let started = std::thread::Builder::new()
                .name(self.name.clone())
                .spawn(move || work(&shared, executor, run));
            match started {
                Ok(_) => state.threads += 1,
                // the others will come to it
                Err(_) if state.threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn forget(&self) {
        self.shared.state.lock().queue.clear();
    }
}

impl<J: Send + 'static> Drop for Crew<J> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.queue.clear();
        state.stop = true;
        self.shared.work.notify_all();
    }
}

fn work<J>(shared: &Shared<J>, mut executor: Executor, run: fn(&mut Executor, J)) {
    loop {
        let (key, job) = {
            let mut state = shared.state.lock();
            loop {
                if state.stop {
                    return;
                }
                if let Some(job) = state.queue.take() {
                    break job;
                }
                state.idle += 1;
                shared.work.wait(&mut state);
                // whoever woke this thread has counted it as busy, or it stops
            }
        };
        run(&mut executor, job);
        // what became ready is this thread's next, unless another one is idle
        shared.state.lock().queue.done(key);
    }
}

/// Equal keys, same line. Records without a key have no order to keep.
fn key_of(record: &Fetched) -> u64 {
    let mut hash = DefaultHasher::new();
    match &record.record.key {
        Some(key) => key.hash(&mut hash),
        None => (record.partition.number, record.offset).hash(&mut hash),
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn one_of_a_key_at_a_time_and_in_order() {
        let mut queue = Queue::new();
        assert!(queue.push(1, "a1") && !queue.push(1, "a2") && queue.push(2, "b1"));
        assert_eq!(queue.take(), Some((1, "a1")));
        assert_eq!(queue.take(), Some((2, "b1")));
        assert_eq!(queue.take(), None);
        assert!(!queue.push(1, "a3"));
        assert!(queue.done(1));
        assert_eq!(queue.take(), Some((1, "a2")));
        assert!(!queue.done(2));
        assert!(queue.push(2, "b2"));
        assert!(queue.done(1));
        assert_eq!(queue.take(), Some((2, "b2")));
        assert_eq!(queue.take(), Some((1, "a3")));
        assert!(!queue.done(1) && !queue.done(2));
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn what_runs_keeps_its_place_when_the_rest_is_forgotten() {
        let mut queue = Queue::new();
        queue.push(1, "old");
        queue.push(1, "old, later");
        queue.push(2, "old, other");
        assert_eq!(queue.take(), Some((1, "old")));
        queue.clear();
        assert_eq!(queue.take(), None);
        assert!(!queue.push(1, "new") && queue.push(2, "new, other"));
        assert_eq!(queue.take(), Some((2, "new, other")));
        assert!(queue.done(1));
        assert_eq!(queue.take(), Some((1, "new")));
    }
}
