//! Deleting all rows of a tenant from Weir's own tables of a destination, as a command asks for it.
//!
//! Promise: what had landed when the erasure came to it is gone; what lands later stays, whenever its record was written. It
//! goes on in bounded chunks, each for itself: one that was broken off is done again from the start, and finds what is left.
//! Users' tables, positions and other tenants' rows are not touched.

/// Rows of one table that were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    pub table: &'static str,
    pub rows: u64,
}

/// Told of each chunk, for whoever waits: the table, and its rows so far.
pub type Told<'a> = &'a (dyn Fn(Erased) + Sync);

/// Executions, or dead letters, that go together.
pub(crate) const CHUNK: i64 = 500;

/// How many of each table are gone.
pub(crate) struct Tally<'a> {
    told: Told<'a>,
    tables: Vec<Erased>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(told: Told<'a>) -> Self {
        Self {
            told,
            tables: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, table: &'static str, rows: u64) {
        let known = self.tables.iter_mut().find(|one| one.table == table);
        let total = match known {
            Some(known) => {
                known.rows += rows;
                *known
            }
            None => {
                let new = Erased { table, rows };
                self.tables.push(new);
                new
            }
        };
        (self.told)(total);
    }

    pub(crate) fn tables(self) -> Vec<Erased> {
        self.tables
    }
}
