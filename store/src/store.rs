//! How a store is opened and closed.

use std::path::Path;
use std::sync::Arc;

use crate::database::Database;
use crate::inbox::Inbox;
use crate::slots::Slots;
use crate::{Result, StoreError};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// SQLite: how large the file may grow; beyond it calls fail with [`StoreError::Full`]. `None`: as the disk allows.
    pub bytes_max: Option<u64>,
    /// Postgres: how many connections this process may have, besides one that holds slots.
    pub connections_max: u32,
    /// How many shards the inbox of a new store gets; ignored by one that has its number already. `None`: one in
    /// SQLite, which has one writer anyway, and 4 in Postgres, so that processes do not queue for one row.
    pub inbox_shards: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bytes_max: None,
            connections_max: 8,
            inbox_shards: None,
        }
    }
}

/// What is at rest. Cheap to clone; closed when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Arc<Database>,
    inbox: Inbox,
    slots: Slots,
}

impl Store {
    /// Opens what the URL names: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, shared by any number of processes, or
    /// `sqlite:PATH`, for one process. Makes the tables, or brings older ones up to date.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, &Options::default()).await
    }

    /// As [`Store::connect`].
    pub async fn connect_with(url: &str, options: &Options) -> Result<Self> {
        // The URL may hold a password: no message quotes it.
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => {
                Self::new(Database::postgres(url, options).await?, options).await
            }
            Some(("sqlite", ":memory:")) => {
                Self::new(Database::memory(options).await?, options).await
            }
            Some(("sqlite", path)) if !path.is_empty() => {
                let path = path.strip_prefix("//").unwrap_or(path);
                Self::open_with(Path::new(path), options).await
            }
            _ => Err(StoreError::invalid(
                "the store's URL is of no known kind; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:PATH",
            )),
        }
    }

    /// Opens the SQLite file, creates it if it is missing, and brings an older one up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &Options::default()).await
    }

    /// As [`Store::open`].
    pub async fn open_with(path: &Path, options: &Options) -> Result<Self> {
        Self::new(Database::open(path, options).await?, options).await
    }

    /// A store that is gone with its last clone.
    pub async fn memory() -> Result<Self> {
        let options = Options::default();
        Self::new(Database::memory(&options).await?, &options).await
    }

    async fn new(database: Database, options: &Options) -> Result<Self> {
        let database = Arc::new(database);
        let inbox = Inbox::start(database.clone(), options).await?;
        let slots = Slots::new(database.clone());
        Ok(Self {
            database,
            inbox,
            slots,
        })
    }

    /// The triggers that carry an idempotency key.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Numbers that one process at a time has.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Asks the database something small: whether it answers.
    pub async fn check(&self) -> Result<()> {
        let select = crate::database::sql("select format from store_format");
        match self.database.optional::<(i64,)>(select).await? {
            Some(_) => Ok(()),
            None => Err(self.database.corrupt("its format is not noted")),
        }
    }

    /// Where it is, without user and password.
    pub fn place(&self) -> &str {
        self.database.place()
    }

    /// Whether other processes may use it too.
    pub fn is_shared(&self) -> bool {
        matches!(*self.database, Database::Postgres(_))
    }

    /// Finishes what is being written and closes it. Later calls fail.
    pub async fn close(&self) {
        self.inbox.stop().await;
        self.database.close().await;
    }
}
