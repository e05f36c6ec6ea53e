//! Dead letters: listed by day, each then read by its id. The list has the graph and the kind; what else is asked for, the row says.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::DeserializeRow;

use super::days::{Whose, day};
use super::open::{Fault, Open, broken};
use crate::history::{DeadLetter, Letters, Original};

/// Letters that are read at once.
const ASKED_MAX: usize = 32;

/// In which order, and from where on.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    Down { before: (i64, &'a str) },
    Up { after: (i64, &'a str) },
}

impl Way<'_> {
    /// From this time on.
    fn since(self, ms: Option<i64>) -> Self {
        match (self, ms) {
            (Self::Up { after }, Some(ms)) if after.0 < ms => Self::Up { after: (ms, "") },
            (way, _) => way,
        }
    }
}

/// A row of a dead letter with columns of its own.
macro_rules! letter {
    ($name:ident { $($field:ident: $of:ty,)* }) => {
        #[derive(DeserializeRow)]
        struct $name {
            id: String,
            tenant: String,
            graph: Option<String>,
            version: Option<String>,
            execution: Option<String>,
            step: Option<String>,
            kind: String,
            reason: String,
            attempt: i32,
            topic: String,
            partition: i32,
            offset: i64,
            died_at_ms: i64,
            purged_at_ms: Option<i64>,
            $($field: $of,)*
        }

        impl $name {
            /// With the tenant and what it has besides.
            fn read(self) -> (String, DeadLetter, ($($of,)*)) {
                let letter = DeadLetter {
                    id: self.id,
                    graph: self.graph,
                    version: self.version,
                    execution: self.execution,
                    step: self.step,
                    kind: self.kind,
                    reason: self.reason,
                    attempt: self.attempt.into(),
                    topic: self.topic,
                    partition: self.partition.into(),
                    offset: self.offset,
                    died_at_ms: self.died_at_ms,
                    purged_at_ms: self.purged_at_ms,
                };
                (self.tenant, letter, ($(self.$field,)*))
            }
        }
    };
}

letter!(Listed {});
letter!(Whole {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: String,
});

/// What is read of a letter.
pub(super) trait Read: Sized {
    /// `None`: there is none of this id and tenant.
    fn read(
        open: &Open,
        tenant: &str,
        id: &str,
    ) -> impl Future<Output = Result<Option<Self>, Fault>> + Send;
    fn letter(&self) -> &DeadLetter;
}

impl Read for DeadLetter {
    async fn read(open: &Open, tenant: &str, id: &str) -> Result<Option<Self>, Fault> {
        let found: Vec<Listed> = open.all(&open.letter, (id,)).await?;
        let mut found = found.into_iter().map(Listed::read);
        let found = found.find(|(of, ..)| of == tenant);
        Ok(found.map(|(_, letter, ())| letter))
    }

    fn letter(&self) -> &DeadLetter {
        self
    }
}

impl Read for (DeadLetter, Original) {
    async fn read(open: &Open, tenant: &str, id: &str) -> Result<Option<Self>, Fault> {
        let found: Vec<Whole> = open.all(&open.original, (id,)).await?;
        let mut found = found.into_iter().map(Whole::read);
        let found = found.find(|(of, ..)| of == tenant);
        Ok(found.map(|(_, letter, (key, value, headers))| {
            let original = Original {
                key,
                value,
                headers,
            };
            (letter, original)
        }))
    }

    fn letter(&self) -> &DeadLetter {
        &self.0
    }
}

/// What the list by day says of a letter.
struct Entry {
    died_at_ms: i64,
    id: String,
}

impl Open {
    /// The first of those that are wanted.
    pub(super) async fn letters<R: Read>(
        &self,
        tenant: &str,
        wanted: &Letters,
        way: Way<'_>,
        limit: u32,
    ) -> Result<Vec<R>, Fault> {
        let limit = limit as usize;
        let way = way.since(wanted.since_ms);
        let whose = Whose {
            tenant,
            kind: "dead-letters",
            graph: "",
        };
        let (days, first, last) = match way {
            Way::Down { before } => {
                let first = wanted.since_ms.map_or(i32::MIN, day);
                (&self.days_down, first, day(before.0))
            }
            Way::Up { after } => (&self.days_up, day(after.0), i32::MAX),
        };
        let mut days = self.days(days, whose, first, last).await?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(day) = days.next().await?
        {
            self.of_day(tenant, day, wanted, way, limit, &mut found)
                .await?;
        }
        Ok(found)
    }

    async fn of_day<R: Read>(
        &self,
        tenant: &str,
        day: i32,
        wanted: &Letters,
        way: Way<'_>,
        limit: usize,
        found: &mut Vec<R>,
    ) -> Result<(), Fault> {
        let (statement, (ms, id)) = match way {
            Way::Down { before } => (&self.letters_down, before),
            Way::Up { after } => (&self.letters_up, after),
        };
        let values = (tenant, day, ms, id);
        let mut rows = self
            .rows::<(i64, String, Option<String>, String)>(statement, values)
            .await?;
        let mut listed = Vec::new();
        loop {
            let row = rows.try_next().await.map_err(broken)?;
            // going down, the others died earlier still; going up, there is none
            let row = row.filter(|row| wanted.since_ms.is_none_or(|since| since <= row.0));
            let last = row.is_none();
            if let Some((died_at_ms, id, graph, kind)) = row
                && wanted
                    .graph
                    .as_ref()
                    .is_none_or(|of| Some(of) == graph.as_ref())
                && wanted.kind.as_ref().is_none_or(|of| *of == kind)
            {
                listed.push(Entry { died_at_ms, id });
            }
            if last || listed.len() == ASKED_MAX {
                self.chosen(tenant, std::mem::take(&mut listed), wanted, found)
                    .await?;
                found.truncate(limit);
            }
            if last || found.len() == limit {
                return Ok(());
            }
        }
    }

    /// Those among these, in their order.
    async fn chosen<R: Read>(
        &self,
        tenant: &str,
        listed: Vec<Entry>,
        wanted: &Letters,
        found: &mut Vec<R>,
    ) -> Result<(), Fault> {
        let read = listed.into_iter().map(|entry| async move {
            let read = R::read(self, tenant, &entry.id).await?;
            // one of the same id may have died since
            Ok::<_, Fault>(read.filter(|read| read.letter().died_at_ms == entry.died_at_ms))
        });
        let mut read = stream::iter(read).buffered(ASKED_MAX);
        while let Some(read) = read.try_next().await? {
            let wanted = |read: &R| {
                let letter = read.letter();
                letter.purged_at_ms.is_some() == wanted.purged
                    && wanted
                        .step
                        .as_ref()
                        .is_none_or(|step| Some(step) == letter.step.as_ref())
            };
            found.extend(read.filter(wanted));
        }
        Ok(())
    }

    pub(super) async fn originals_of(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<(DeadLetter, Original)>, Fault> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        // no partition has such a key
        ids.retain(|id| !id.is_empty() && id.len() <= KEY_BYTES_MAX);
        let read = ids
            .into_iter()
            .map(|id| async move { <(DeadLetter, Original)>::read(self, tenant, &id).await });
        let mut read = stream::iter(read).buffered(ASKED_MAX);
        let mut found = Vec::new();
        while let Some(letter) = read.try_next().await? {
            found.extend(letter);
        }
        Ok(found)
    }
}

/// What a partition's key has at most.
const KEY_BYTES_MAX: usize = 65_535;
