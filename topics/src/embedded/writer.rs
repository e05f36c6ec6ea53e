//! The one thread that writes a file: takes what waits, stages it, writes it in one transaction, applies it, answers.
//!
//! Whoever comes while a transaction is being written waits for the next one: that is the group commit. A transaction
//! that fails (disk full) is rolled back, its plan dropped, and each of its commands gets the error; the next one starts
//! from the state as it was.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::file::FileWriter;
use super::state::{Command, Outcome, State};
use crate::catalog::TopicSpec;
use crate::error::LogError;
use crate::log::Result;

/// More commands than this wait only if something is wrong: each has a caller that waits for it.
const COMMANDS_WAITING_MAX: usize = 65_536;

pub(super) enum Reply {
    Blocking(Sender<Result<Outcome>>),
    Async(oneshot::Sender<Result<Outcome>>),
}

impl Reply {
    fn send(self, outcome: Result<Outcome>) {
        // a caller that has gone does not want to know
        match self {
            Self::Blocking(to) => drop(to.send(outcome)),
            Self::Async(to) => drop(to.send(outcome)),
        }
    }
}

pub(super) enum Task {
    Command(Command, Reply),
    Create(Vec<TopicSpec>, Sender<Result<()>>),
    Retain {
        now_ms: i64,
        reply: Sender<Result<()>>,
    },
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    closed: bool,
}

#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The thread and the way to it. Dropped: writes what waits, then ends.
pub(super) struct Writer {
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(state: Arc<Mutex<State>>, file: FileWriter) -> Result<Self> {
        let waiting = Arc::new(Waiting::default());
        let tasks = waiting.clone();
        let thread = std::thread::Builder::new()
            .name("weir-log".into())
            .spawn(move || run(&tasks, &state, file));
        let thread = Some(thread.map_err(LogError::unavailable)?);
        Ok(Self { waiting, thread })
    }

    pub(super) fn push(&self, task: Task) -> Result<()> {
        let mut queue = self.waiting.queue.lock();
        if queue.closed {
            return Err(LogError::unavailable("its writer has ended"));
        }
        if queue.tasks.len() >= COMMANDS_WAITING_MAX {
            return Err(LogError::unavailable(format!(
                "{COMMANDS_WAITING_MAX} writes are waiting already"
            )));
        }
        queue.tasks.push(task);
        if queue.tasks.len() == 1 {
            self.waiting.changed.notify_one();
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.waiting.queue.lock().closed = true;
        self.waiting.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded log's writer panicked");
        }
    }
}

/// Whoever still waits when the writer ends, in whatever way, is told so: dropped replies are errors, and nobody new comes.
struct Closing<'a>(&'a Waiting);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        queue.tasks.clear();
    }
}

fn run(waiting: &Waiting, state: &Mutex<State>, mut file: FileWriter) {
    let _closing = Closing(waiting);
    loop {
        let tasks = {
            let mut queue = waiting.queue.lock();
            while queue.tasks.is_empty() && !queue.closed {
                waiting.changed.wait(&mut queue);
            }
            if queue.tasks.is_empty() {
                break;
            }
            std::mem::take(&mut queue.tasks)
        };
        let (mut commands, mut replies) = (
            Vec::with_capacity(tasks.len()),
            Vec::with_capacity(tasks.len()),
        );
        for task in tasks {
            match task {
                Task::Command(command, reply) => {
                    commands.push(command);
                    replies.push(reply);
                }
                Task::Create(topics, reply) => {
                    write(
                        state,
                        &mut file,
                        std::mem::take(&mut commands),
                        std::mem::take(&mut replies),
                    );
                    drop(reply.send(create(state, &mut file, &topics)));
                }
                Task::Retain { now_ms, reply } => {
                    write(
                        state,
                        &mut file,
                        std::mem::take(&mut commands),
                        std::mem::take(&mut replies),
                    );
                    drop(reply.send(file.retain(state, now_ms)));
                }
            }
        }
        write(state, &mut file, commands, replies);
    }
    file.close();
}

fn write(state: &Mutex<State>, file: &mut FileWriter, commands: Vec<Command>, replies: Vec<Reply>) {
    if commands.is_empty() {
        return;
    }
    let (plan, outcomes) = state.lock().stage(commands);
    if !plan.is_volatile()
        && let Err(error) = file.write(&plan)
    {
        tracing::warn!(%error, "nothing of a group of {} writes was committed", replies.len());
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // one that was refused anyway keeps its own reason
            reply.send(Err(outcome.err().unwrap_or_else(|| error.clone())));
        }
        return;
    }
    state.lock().apply(plan);
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        reply.send(outcome);
    }
}

fn create(state: &Mutex<State>, file: &mut FileWriter, topics: &[TopicSpec]) -> Result<()> {
    let (missing, first) = {
        let state = state.lock();
        (state.missing(topics), state.next_log_id())
    };
    if missing.is_empty() {
        return Ok(());
    }
    file.create(&missing, first)?;
    let mut state = state.lock();
    for spec in &missing {
        state.create(spec);
    }
    state.rebalance();
    Ok(())
}
