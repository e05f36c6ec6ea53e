//! Numbers that one process at a time has: what stable transactional ids are made of.
//!
//! A process that starts claims the lowest numbers that are free, so that the one which takes a dead one's place gets its
//! numbers, and with them its transactional ids; that also holds where processes have no stable names.
//!
//! Postgres: a number is an advisory lock of one session, on a connection outside the pool. A killed process frees its
//! numbers at once, because its socket closes; a frozen one keeps them; one whose machine is gone loses them when the
//! server's keepalive gives it up (about 30 s). The session may be lost without the process noticing at once: `Claimed`
//! looks every `LOOK`, and then says so. Until then two processes may have one number. That is safe, because the log
//! fences the older owner of a transactional id, but the owner has to learn of it, and claim anew. The session has to be
//! one: no pooler in transaction mode may stand between (it is noticed, as a loss).
//!
//! SQLite belongs to one process: its numbers are counted in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::database::postgres::Server;
use crate::{Result, StoreError};

/// How often a claim looks whether it still holds.
const LOOK: Duration = Duration::from_secs(2);
/// Numbers beyond this are not given out.
const NUMBERS_MAX: u32 = 65_536;

/// Gives numbers out. See the module.
#[derive(Clone)]
pub struct Slots {
    database: Arc<Database>,
    /// SQLite: what is taken of each role.
    taken: Arc<Mutex<BTreeMap<String, BTreeSet<u32>>>>,
}

impl Slots {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            taken: Arc::default(),
        }
    }

    /// Claims the `count` lowest numbers of the role that nobody has.
    pub async fn claim(&self, role: &str, count: usize) -> Result<Claimed> {
        let count = u32::try_from(count)
            .ok()
            .filter(|count| *count <= NUMBERS_MAX);
        let Some(count) = count else {
            return Err(StoreError::invalid(format!(
                "one process cannot claim more than {NUMBERS_MAX} slots"
            )));
        };
        match &*self.database {
            Database::Sqlite(_) => Ok(self.count(role, count)),
            Database::Postgres(server) => {
                let mut session = server.session().await?;
                let class = class(role);
                let numbers = lock(server, &mut session, class, count).await?;
                tracing::info!(role, ?numbers, "slots are claimed");
                let (losing, lost) = watch::channel(false);
                let (release, released) = oneshot::channel();
                let held = Held {
                    database: self.database.clone(),
                    session,
                    class,
                    count: i64::from(count),
                    role: role.to_owned(),
                };
                let task = tokio::spawn(held.hold(losing, released));
                Ok(Claimed {
                    numbers,
                    kept: Kept::Session {
                        lost,
                        release: Some(release),
                        task: Some(task),
                    },
                })
            }
        }
    }

    fn count(&self, role: &str, count: u32) -> Claimed {
        let mut taken = self.taken.lock();
        let of_role = taken.entry(role.to_owned()).or_default();
        let numbers: Vec<u32> = (0..)
            .filter(|number| !of_role.contains(number))
            .take(count as usize)
            .collect();
        of_role.extend(&numbers);
        Claimed {
            numbers,
            kept: Kept::Memory {
                role: role.to_owned(),
                taken: self.taken.clone(),
            },
        }
    }
}

/// Numbers that are this process's until this is dropped, or until they are lost.
pub struct Claimed {
    numbers: Vec<u32>,
    kept: Kept,
}

enum Kept {
    Memory {
        role: String,
        taken: Arc<Mutex<BTreeMap<String, BTreeSet<u32>>>>,
    },
    Session {
        lost: watch::Receiver<bool>,
        release: Option<oneshot::Sender<()>>,
        task: Option<JoinHandle<()>>,
    },
}

impl Claimed {
    /// In ascending order; as many as were asked for.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Whether it is known to be lost: another process may have the numbers by now.
    pub fn is_lost(&self) -> bool {
        match &self.kept {
            Kept::Memory { .. } => false,
            Kept::Session { lost, .. } => *lost.borrow(),
        }
    }

    /// Resolves when the numbers are lost: stop what uses them, and claim anew. Independent of the claim's life.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let lost = match &self.kept {
            Kept::Memory { .. } => None,
            Kept::Session { lost, .. } => Some(lost.clone()),
        };
        async move {
            match lost {
                None => std::future::pending().await,
                Some(mut lost) => {
                    if lost.wait_for(|lost| *lost).await.is_err() {
                        // let go of on purpose
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// Frees the numbers, and waits until they are free.
    pub async fn release(mut self) {
        if let Kept::Session { release, task, .. } = &mut self.kept {
            drop(release.take());
            if let Some(task) = task.take()
                && let Err(error) = task.await
            {
                tracing::warn!(%error, "the task that held slots died");
            }
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        match &mut self.kept {
            // the task ends by the end of the channel, and closes the session
            Kept::Session { release, .. } => drop(release.take()),
            Kept::Memory { role, taken } => {
                if let Some(of_role) = taken.lock().get_mut(role) {
                    of_role.retain(|number| !self.numbers.contains(number));
                }
            }
        }
    }
}

/// Advisory locks have one space per database, of two 32-bit numbers: the first is made of the role.
fn class(role: &str) -> i32 {
    let digest = Sha256::digest(format!("weir slots {role}"));
    i32::from_be_bytes(*digest.first_chunk().expect("sha256 has 32 bytes"))
}

async fn lock(
    server: &Server,
    session: &mut PgConnection,
    class: i32,
    count: u32,
) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut next = 0_u32;
    while numbers.len() < count as usize {
        // never more than are missing: none has to be given back
        let missing = count - numbers.len() as u32;
        if next + missing > NUMBERS_MAX {
            return Err(StoreError::invalid(format!(
                "no {count} of {NUMBERS_MAX} slots are free"
            )));
        }
        let select = sqlx::query_as::<_, (i32, bool)>(
            "select n, pg_try_advisory_lock($1, n) from generate_series($2::int, $3::int) n order by n",
        );
        let select = select
            .bind(class)
            .bind(next.cast_signed())
            .bind((next + missing - 1).cast_signed());
        let tried = server.call(select.fetch_all(&mut *session)).await?;
        numbers.extend(
            tried
                .into_iter()
                .filter_map(|(number, locked)| locked.then_some(number.cast_unsigned())),
        );
        next += missing;
    }
    Ok(numbers)
}

/// The session that has the locks.
struct Held {
    database: Arc<Database>,
    session: PgConnection,
    class: i32,
    count: i64,
    role: String,
}

impl Held {
    async fn hold(mut self, losing: watch::Sender<bool>, mut released: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut released => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            let looked = tokio::select! {
                _ = &mut released => break,
                looked = self.look() => looked,
            };
            if let Err(error) = looked {
                tracing::warn!(role = self.role, %error, "slots are lost; claim anew");
                losing.send_replace(true);
                return;
            }
        }
        // politely, so that the numbers are free when this returns; a server that does not answer has none to free
        let Ok(closed) = tokio::time::timeout(LOOK, self.session.close()).await else {
            return;
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "closing the session of slots");
        }
    }

    async fn look(&mut self) -> Result<()> {
        let Database::Postgres(server) = &*self.database else {
            return Ok(());
        };
        // a pooler in transaction mode would show another session here
        let select = sqlx::query_as::<_, (i64,)>(
            "select count(*) from pg_locks
             where locktype = 'advisory' and pid = pg_backend_pid() and granted
               and database = (select oid from pg_database where datname = current_database())
               and classid = ($1::bigint & 4294967295)::oid and objsubid = 2",
        );
        let select = select.bind(i64::from(self.class));
        let looked = tokio::time::timeout(2 * LOOK, select.fetch_one(&mut self.session)).await;
        let place = || server.place().to_owned();
        match looked {
            Ok(Ok((held,))) if held == self.count => Ok(()),
            Ok(Ok((held,))) => Err(StoreError::Unavailable {
                place: place(),
                reason: format!(
                    "the session has {held} of {} locks; is a pooler in transaction mode between?",
                    self.count
                ),
            }),
            Ok(Err(error)) => Err(server.error(error)),
            Err(_) => Err(StoreError::Unavailable {
                place: place(),
                reason: "the server does not answer".to_owned(),
            }),
        }
    }
}
