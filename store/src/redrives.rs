//! What was asked to become of dead letters: redrives and purges, and the records by which they come to be.
//!
//! Invariants: a request is one redrive, however often it is sent. A redrive and all its letters are stored in one
//! transaction, which takes their numbers from one counter row: number order is commit order, so a source that has emitted
//! up to N never misses a letter that is committed later. The position of that source, on the log, is what says how far
//! it has come; `redrives_emitted` is housekeeping and may be late.
//!
//! It does not look into records: it keeps their bytes until they are emitted.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::database::{Query, Transaction, sql};
use crate::{Result, Store, StoreError};

/// The counter row of the letters' numbers.
const NUMBERS: &str = "redrives";
/// The counter row that says up to which number letters are known to be emitted.
const EMITTED: &str = "redrives-emitted";
/// Letters of one statement.
const CHUNK_LETTERS: usize = 500;
const CHUNK_BYTES: usize = 1 << 20;

/// What shall become of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveKind {
    /// They are run again.
    Redrive,
    /// They are no longer shown, and their bytes are dropped.
    Purge,
}

impl RedriveKind {
    fn word(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Purge => "purge",
        }
    }
}

/// A dead letter, and the record that is to be emitted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub id: String,
    pub record: Bytes,
}

/// A redrive to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRedrive {
    pub id: String,
    pub tenant: String,
    pub kind: RedriveKind,
    /// By which a second asking is known.
    pub request: String,
    /// A digest of what was asked for: the same request has the same one.
    pub selection: String,
    /// Which version was asked for, in the words of who asked.
    pub version: String,
    /// What could not be taken and why, in the words of who asked.
    pub refused: String,
    /// Whether letters are taken that an earlier redrive of this kind has taken.
    pub again: bool,
    pub at_ms: i64,
    pub letters: Vec<Letter>,
}

/// A stored redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    pub id: String,
    pub request: String,
    pub selection: String,
    pub version: String,
    pub letters: u64,
    /// How many of them are known to be on the log.
    pub emitted: u64,
    pub refused: String,
    pub at_ms: i64,
}

/// What became of a new redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveAccepted {
    New(Redrive),
    /// The request is known; nothing was stored.
    Known(Redrive),
    /// The request is known, and asked for something else.
    Conflict,
}

/// A letter that waits to be emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterRow {
    pub number: i64,
    pub record: Bytes,
}

/// What redrives have taken of a letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The last redrive that took it, and when that was accepted.
    pub redrive: Option<(String, i64)>,
    pub purged_at_ms: Option<i64>,
}

impl Store {
    /// Stores a redrive, unless its request is known.
    pub async fn redrive(&self, new: NewRedrive) -> Result<RedriveAccepted> {
        let mut transaction = self.database.begin().await?;
        // Whoever stores a redrive waits here for those before: what is read below is the last that was committed.
        transaction.count(NUMBERS, 0).await?;
        let known: Option<RedriveRow> = transaction
            .optional(of_request(&new.tenant, new.kind, &new.request))
            .await?;
        if let Some(known) = known {
            let emitted = emitted_up_to(&mut transaction).await?;
            let known = redrive(known, emitted);
            return Ok(if known.selection == new.selection {
                RedriveAccepted::Known(known)
            } else {
                RedriveAccepted::Conflict
            });
        }
        let mut letters = new.letters;
        if !new.again {
            let taken = taken(&mut transaction, &new.tenant, new.kind, &letters).await?;
            letters.retain(|letter| !taken.contains(&letter.id));
        }
        let count = letters.len() as i64;
        let first = transaction.count(NUMBERS, count).await? - count + 1;
        let mut number = first;
        for chunk in chunks(&letters) {
            insert(&mut transaction, &new.tenant, &new.id, number, chunk).await?;
            number += chunk.len() as i64;
        }
        let row = sql(
            "insert into redrives (id, tenant, request, kind, selection, version, letters, first_number, refused, at_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        let row = row.bind(&new.id).bind(&new.tenant).bind(&new.request);
        let row = row
            .bind(new.kind.word())
            .bind(&new.selection)
            .bind(&new.version);
        let row = row.bind(count).bind(first).bind(&new.refused);
        transaction.execute(row.bind(new.at_ms)).await?;
        transaction.commit().await?;
        Ok(RedriveAccepted::New(Redrive {
            id: new.id,
            request: new.request,
            selection: new.selection,
            version: new.version,
            letters: count as u64,
            emitted: 0,
            refused: new.refused,
            at_ms: new.at_ms,
        }))
    }

    /// The redrive of a request.
    pub async fn redrive_of_request(
        &self,
        tenant: &str,
        kind: RedriveKind,
        request: &str,
    ) -> Result<Option<Redrive>> {
        self.one_redrive(of_request(tenant, kind, request)).await
    }

    /// A redrive by its id.
    pub async fn redrive_by_id(
        &self,
        tenant: &str,
        kind: RedriveKind,
        id: &str,
    ) -> Result<Option<Redrive>> {
        let select = sql(
            "select id, request, selection, version, letters, first_number, refused, at_ms from redrives
             where tenant = $1 and kind = $2 and id = $3",
        );
        self.one_redrive(select.bind(tenant).bind(kind.word()).bind(id))
            .await
    }

    async fn one_redrive(&self, select: Query) -> Result<Option<Redrive>> {
        let Some(row) = self.database.optional::<RedriveRow>(select).await? else {
            return Ok(None);
        };
        let emitted = self.redrives_emitted_up_to().await?;
        Ok(Some(redrive(row, emitted)))
    }

    /// What redrives and purges have taken of these letters; those that none has taken are not in it.
    pub async fn repaired(
        &self,
        tenant: &str,
        letters: &[String],
    ) -> Result<BTreeMap<String, Repaired>> {
        let select = Query::each(
            "select l.letter, r.kind, r.id, r.at_ms from redrive_letters l join redrives r on r.id = l.redrive
             where l.tenant = $1 and l.letter in (select value from json_each($2)) order by l.number",
            "select l.letter, r.kind, r.id, r.at_ms from redrive_letters l join redrives r on r.id = l.redrive
             where l.tenant = $1 and l.letter = any($2) order by l.number",
        );
        let rows: Vec<(String, String, String, i64)> = self
            .database
            .all(select.bind(tenant).bind(letters.to_vec()))
            .await?;
        let mut repaired: BTreeMap<String, Repaired> = BTreeMap::new();
        for (letter, kind, redrive, at_ms) in rows {
            let of = repaired.entry(letter).or_default();
            if kind == RedriveKind::Purge.word() {
                of.purged_at_ms.get_or_insert(at_ms);
            } else {
                of.redrive = Some((redrive, at_ms));
            }
        }
        Ok(repaired)
    }

    /// The letters behind this number, in order: at most so many, and those that begin within so many bytes.
    pub async fn redrive_letters_after(
        &self,
        number: i64,
        limit: u32,
        bytes: u64,
    ) -> Result<Vec<LetterRow>> {
        let select = sql(
            "select number, data from (
                 select number, data, size, cast(sum(size) over (order by number) as bigint) as reached from (
                     select number, data, cast(coalesce(length(data), 0) as bigint) as size
                     from redrive_letters where number > $1 order by number limit $2) as next) as counted
             where reached - size < $3 order by number",
        );
        let select = select.bind(number).bind(limit).bind(bytes as i64);
        let rows: Vec<(i64, Option<Vec<u8>>)> = self.database.all(select).await?;
        let row = |(number, data): (i64, Option<Vec<u8>>)| {
            let record = data.map(Bytes::from).ok_or_else(|| {
                self.database.corrupt(&format!(
                    "the record of redriven letter {number} is gone before it was emitted"
                ))
            })?;
            Ok(LetterRow { number, record })
        };
        rows.into_iter().map(row).collect()
    }

    /// The letters up to this number are on the log: their bytes are dropped, and progress is shown.
    pub async fn redrives_emitted(&self, up_to: i64) -> Result<()> {
        let mut transaction = self.database.begin().await?;
        let before = emitted_up_to(&mut transaction).await?;
        if before < up_to {
            let drop =
                sql("update redrive_letters set data = null where number > $1 and number <= $2");
            transaction.execute(drop.bind(before).bind(up_to)).await?;
            transaction.count(EMITTED, up_to - before).await?;
        }
        transaction.commit().await
    }

    /// Up to which number letters are known to be on the log.
    pub async fn redrives_emitted_up_to(&self) -> Result<i64> {
        let select = sql("select value from counters where name = $1").bind(EMITTED);
        let found: Option<(i64,)> = self.database.optional(select).await?;
        Ok(found.map_or(0, |(value,)| value))
    }

    /// Letters get numbers behind this one from now on: a store that is younger than the log must not give out numbers
    /// that the log's position has passed.
    pub async fn redrives_number_from(&self, number: i64) -> Result<()> {
        let mut transaction = self.database.begin().await?;
        let last = transaction.count(NUMBERS, 0).await?;
        if last < number {
            transaction.count(NUMBERS, number - last).await?;
        }
        transaction.commit().await
    }
}

type RedriveRow = (String, String, String, String, i64, i64, String, i64);

fn of_request(tenant: &str, kind: RedriveKind, request: &str) -> Query {
    sql(
        "select id, request, selection, version, letters, first_number, refused, at_ms from redrives
         where tenant = $1 and kind = $2 and request = $3",
    )
    .bind(tenant)
    .bind(kind.word())
    .bind(request)
}

/// `emitted`: up to which number.
fn redrive(row: RedriveRow, emitted: i64) -> Redrive {
    let (id, request, selection, version, letters, first, refused, at_ms) = row;
    Redrive {
        id,
        request,
        selection,
        version,
        letters: letters as u64,
        emitted: (emitted - first + 1).clamp(0, letters) as u64,
        refused,
        at_ms,
    }
}

/// Within a transaction that holds the numbers' counter row, so that no other comes between.
async fn emitted_up_to(transaction: &mut Transaction<'_>) -> Result<i64> {
    transaction.count(EMITTED, 0).await
}

/// Those of the letters that an earlier redrive of this kind has taken.
async fn taken(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    kind: RedriveKind,
    letters: &[Letter],
) -> Result<HashSet<String>> {
    let mut taken = HashSet::new();
    for chunk in letters.chunks(CHUNK_LETTERS) {
        let select = Query::each(
            "select l.letter from redrive_letters l join redrives r on r.id = l.redrive
             where l.tenant = $1 and r.kind = $2 and l.letter in (select value from json_each($3))",
            "select l.letter from redrive_letters l join redrives r on r.id = l.redrive
             where l.tenant = $1 and r.kind = $2 and l.letter = any($3)",
        );
        let ids: Vec<String> = chunk.iter().map(|letter| letter.id.clone()).collect();
        let found: Vec<(String,)> = transaction
            .all(select.bind(tenant).bind(kind.word()).bind(ids))
            .await?;
        taken.extend(found.into_iter().map(|(letter,)| letter));
    }
    Ok(taken)
}

/// The letters in their order, each part small enough for a statement; a large letter is a part of its own.
fn chunks(letters: &[Letter]) -> Vec<&[Letter]> {
    let mut chunks = Vec::new();
    let mut rest = letters;
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        for letter in rest {
            bytes += letter.record.len();
            if count == CHUNK_LETTERS || (count > 0 && bytes > CHUNK_BYTES) {
                break;
            }
            count += 1;
        }
        let (chunk, others) = rest.split_at(count);
        chunks.push(chunk);
        rest = others;
    }
    chunks
}

/// The letters get this number and the next ones.
async fn insert(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    redrive: &str,
    first: i64,
    letters: &[Letter],
) -> Result<()> {
    let head = Query::each(
        "insert into redrive_letters (number, tenant, letter, redrive, data)
         select $3 + key, $1, json_extract(value, '$[0]'), $2,
                substr($4, json_extract(value, '$[1]'), json_extract(value, '$[2]'))
         from json_each($5)",
        "insert into redrive_letters (number, tenant, letter, redrive, data)
         select $3 + place - 1, $1, letter, $2, data
         from unnest($4::bytea[], $5::text[]) with ordinality as taken (data, letter, place)",
    );
    let head = head.bind(tenant).bind(redrive).bind(first);
    let filled = match transaction {
        Transaction::Sqlite(_) => {
            let mut data = Vec::new();
            let mut places = Vec::with_capacity(letters.len());
            for letter in letters {
                // `substr` counts from 1
                let place = (&letter.id, data.len() + 1, letter.record.len());
                data.extend_from_slice(&letter.record);
                places.push(place);
            }
            let places = serde_json::to_string(&places)
                .map_err(|error| StoreError::invalid(error.to_string()))?;
            head.bind(data).bind(places)
        }
        Transaction::Postgres(_) => {
            let data = letters.iter().map(|letter| letter.record.to_vec());
            let ids = letters.iter().map(|letter| letter.id.clone());
            head.bind(data.collect::<Vec<_>>())
                .bind(ids.collect::<Vec<_>>())
        }
    };
    transaction.execute(filled).await?;
    Ok(())
}
