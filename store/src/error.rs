//! Why a call on the store failed, and what its caller is to do about it.

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk, or the size that the store may have, is used up; nothing was written.
    #[error("no space left for the store at \"{place}\"; free space, then try again")]
    Full { place: String },
    /// The store cannot be reached or written just now; nothing was written that this call was for.
    #[error("the store at \"{place}\" is not available ({reason}); try again")]
    Unavailable { place: String, reason: String },
    /// Another graph of the tenant already has this webhook path.
    #[error(
        "webhook path \"{path}\" belongs to graph \"{owner}\" already; choose another path, or remove it there first"
    )]
    PathTaken { path: String, owner: String },
    /// There is no such graph, or not any more.
    #[error("{reason}")]
    NotFound { reason: String },
    /// The graph has no version to go back to, or the text does not name one.
    #[error("graph \"{graph}\" cannot go back: {reason}")]
    NoVersion { graph: String, reason: String },
    /// The graph was deleted, and its parked records are not all dead letters yet.
    #[error(
        "graph \"{graph}\" is still being deleted: its parked records become dead letters first; apply it again in a moment"
    )]
    Burying { graph: String },
    /// What the graph writes would come back to it.
    #[error(
        "graph \"{graph}\" would be fed by what it writes: {way}; write another topic, or read another one"
    )]
    Circle { graph: String, way: String },
    /// The file was written by a later version of this program.
    #[error(
        "the store at \"{place}\" has format {found}, this program knows up to {known}; use a newer program"
    )]
    Newer {
        place: String,
        found: i64,
        known: i64,
    },
    /// What is stored is not what was written, or the file is no store.
    #[error("the store at \"{place}\" is damaged ({reason}); restore it from a copy")]
    Corrupt { place: String, reason: String },
    /// A wrong call.
    #[error("{reason}")]
    Invalid { reason: String },
}

/// What the caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Wait a little, do it again.
    Retry,
    /// As `Retry`, but only an operator can help: tell one.
    Full,
    /// What was asked for can never be done; tell who asked.
    Reject,
    /// Nothing that this process can repair: refuse at boot, or stop with an alert.
    Invalid,
}

impl StoreError {
    /// What the caller does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unavailable { .. } | Self::Burying { .. } => Disposition::Retry,
            Self::Full { .. } => Disposition::Full,
            Self::PathTaken { .. }
            | Self::NotFound { .. }
            | Self::NoVersion { .. }
            | Self::Circle { .. } => Disposition::Reject,
            Self::Newer { .. } | Self::Corrupt { .. } | Self::Invalid { .. } => {
                Disposition::Invalid
            }
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    /// Names what SQLite said. Its primary result code is the lower byte of the extended one.
    pub(crate) fn of_sqlite(place: &str, error: sqlx::Error) -> Self {
        const BUSY: i64 = 5;
        const LOCKED: i64 = 6;
        const IO: i64 = 10;
        const CORRUPT: i64 = 11;
        const FULL: i64 = 13;
        const CANNOT_OPEN: i64 = 14;
        const NOT_A_DATABASE: i64 = 26;
        /// The shared memory of the write-ahead log could not grow: in practice, a full disk.
        const IO_SHM_SIZE: i64 = IO | 19 << 8;

        let place = place.to_owned();
        let reason = error.to_string();
        match &error {
            sqlx::Error::Database(said) => {
                let code: i64 = said.code().and_then(|code| code.parse().ok()).unwrap_or(0);
                match code & 0xff {
                    _ if code == IO_SHM_SIZE => Self::Full { place },
                    FULL => Self::Full { place },
                    CORRUPT | NOT_A_DATABASE => Self::Corrupt { place, reason },
                    BUSY | LOCKED | IO | CANNOT_OPEN => Self::Unavailable { place, reason },
                    _ => Self::refused(&place, &reason),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Corrupt { place, reason }
            }
            _ => Self::Unavailable { place, reason },
        }
    }

    /// Names what Postgres said, by its SQLSTATE.
    pub(crate) fn of_postgres(place: &str, error: sqlx::Error) -> Self {
        let place = place.to_owned();
        let said = match error {
            sqlx::Error::Database(said) => said,
            sqlx::Error::PoolTimedOut => {
                return Self::Unavailable {
                    place,
                    reason: "no connection in time: it is down, starting, or has no free connection (see max_connections)".to_owned(),
                };
            }
            error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                let reason = error.to_string();
                return Self::Corrupt { place, reason };
            }
            error @ sqlx::Error::Tls(_) => {
                return Self::invalid(format!(
                    "no TLS with the store at \"{place}\" ({error}); set sslmode and sslrootcert in its URL"
                ));
            }
            error => {
                let reason = error.to_string();
                return Self::Unavailable { place, reason };
            }
        };
        let code = said.code().unwrap_or_default();
        let reason = said.message().to_owned();
        let unavailable = |hint: &str| Self::Unavailable {
            place: place.clone(),
            reason: format!("{reason}{hint}"),
        };
        let invalid = |hint: &str| {
            Self::invalid(format!(
                "the store at \"{place}\" refuses this process ({reason}); {hint}"
            ))
        };
        match &*code {
            "53100" => Self::Full { place },
            "53300" => unavailable("; raise max_connections, or run fewer processes"),
            // a standby, or a primary that has become one: the connection is closed, the next may reach the primary
            "25006" => unavailable("; let the store's URL name the primary"),
            "28000" | "28P01" => invalid("check user and password in the store's URL"),
            "3D000" => invalid("create the database, or name another in the store's URL"),
            "42501" => invalid("grant the user create and use of the schema and its tables"),
            "XX001" | "XX002" => Self::Corrupt { place, reason },
            _ => match code.get(..2) {
                // connection, transaction rolled back, resources, limits, locks, operator, system, "cannot go on"
                Some("08" | "40" | "53" | "55" | "57" | "58" | "25" | "XX") => unavailable(""),
                _ => Self::refused(&place, &reason),
            },
        }
    }

    fn refused(place: &str, reason: &str) -> Self {
        Self::invalid(format!(
            "the store at \"{place}\" refused a statement: {reason}"
        ))
    }
}
