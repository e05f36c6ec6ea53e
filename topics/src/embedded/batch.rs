//! The bytes of a stored batch: what one partition got in one go, the unit of writing, checking, caching and deleting.
//!
//! ```text
//! batch  = version u8 (1) | flags u8 (1: sparse) | crc32 u32 of all that follows | records u32 | record*
//! record = [sparse: offset − base u32] | length of what follows u32 | timestamp i64 | flags u8 (1: key, 2: value)
//!        | [key length u32, key] | [value length u32, value] | headers u16 | (name length u16, name, length u32, bytes)*
//! ```
//! Little endian. A dense batch covers consecutive offsets from its base, so records are encoded before the base is
//! known, by the thread that sends them, and chunks of several writers are joined by copying. Compaction leaves sparse
//! batches. Keys, values and header values that are read are slices of the batch: nothing is copied per record.

use bytes::Bytes;

use crate::log::Record;

const VERSION: u8 = 1;
const SPARSE: u8 = 1;
const HEADER: usize = 10;
const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;

/// Encoded records of one partition that have no offsets yet. Its bytes begin with room for a batch's header.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) records: u32,
    pub(super) timestamp_max: i64,
    bytes: Vec<u8>,
}

impl Chunk {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity);
        bytes.resize(HEADER, 0);
        Self {
            records: 0,
            timestamp_max: i64::MIN,
            bytes,
        }
    }

    pub(super) fn push(&mut self, record: &Record) {
        self.records += 1;
        self.timestamp_max = self.timestamp_max.max(record.timestamp_ms);
        encode(&mut self.bytes, record);
    }

    fn push_sparse(&mut self, delta: u32, record: &Record) {
        self.bytes.extend_from_slice(&delta.to_le_bytes());
        self.push(record);
    }

    /// Appends another chunk's records.
    pub(super) fn join(&mut self, other: &Self) {
        self.records += other.records;
        self.timestamp_max = self.timestamp_max.max(other.timestamp_max);
        self.bytes.extend_from_slice(&other.bytes[HEADER..]);
    }

    /// How many bytes the records take.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    /// The finished batch with its offsets.
    pub(super) fn seal(self, base: i64) -> Batch {
        let span = self.records;
        self.seal_as(base, span, 0)
    }

    fn seal_as(mut self, base: i64, span: u32, flags: u8) -> Batch {
        self.bytes[0] = VERSION;
        self.bytes[1] = flags;
        self.bytes[6..HEADER].copy_from_slice(&self.records.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[6..]);
        self.bytes[2..6].copy_from_slice(&crc.to_le_bytes());
        Batch {
            base,
            span,
            timestamp_max: self.timestamp_max,
            bytes: Bytes::from(self.bytes),
        }
    }
}

/// The bytes that a record counts against a topic's limit and a reader's budget.
pub(super) fn weight(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    record.key.as_ref().map_or(0, Bytes::len)
        + record.value.as_ref().map_or(0, Bytes::len)
        + headers
}

/// About what `encode` will add.
pub(super) fn encoded_len(record: &Record) -> usize {
    weight(record) + 27 + 6 * record.headers.len()
}

fn encode(out: &mut Vec<u8>, record: &Record) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    let flags = if record.key.is_some() { HAS_KEY } else { 0 }
        | if record.value.is_some() { HAS_VALUE } else { 0 };
    out.push(flags);
    for part in [&record.key, &record.value].into_iter().flatten() {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&(record.headers.len() as u16).to_le_bytes());
    for (name, value) in &record.headers {
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    }
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// A stored batch.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) base: i64,
    /// How many offsets it covers; with holes, more than it has records.
    pub(super) span: u32,
    pub(super) timestamp_max: i64,
    pub(super) bytes: Bytes,
}

/// Bytes that are no batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Batch {
    pub(super) fn end(&self) -> i64 {
        self.base + i64::from(self.span)
    }

    /// Checks bytes that come from a disk; those made here need no check.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.bytes.len() < HEADER {
            return Err(Malformed("shorter than a header"));
        }
        if self.bytes[0] != VERSION {
            return Err(Malformed("unknown version"));
        }
        let stored =
            u32::from_le_bytes([self.bytes[2], self.bytes[3], self.bytes[4], self.bytes[5]]);
        if crc32fast::hash(&self.bytes[6..]) != stored {
            return Err(Malformed("its checksum is wrong"));
        }
        Ok(())
    }

    /// Its records from `offset` on.
    pub(super) fn records_from(&self, offset: i64) -> Records {
        Records {
            bytes: self.bytes.clone(),
            at: HEADER,
            next: self.base,
            base: self.base,
            sparse: self.bytes.get(1) == Some(&SPARSE),
            from: offset,
        }
    }
}

/// The records of a batch with their offsets, in order.
pub(super) struct Records {
    bytes: Bytes,
    at: usize,
    next: i64,
    base: i64,
    sparse: bool,
    from: i64,
}

impl Iterator for Records {
    type Item = Result<(i64, Record), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.at >= self.bytes.len() {
                return None;
            }
            match self.step() {
                Some(Some(found)) => return Some(Ok(found)),
                Some(None) => {}
                None => {
                    self.at = self.bytes.len();
                    return Some(Err(Malformed("a record ends outside the batch")));
                }
            }
        }
    }
}

impl Records {
    /// One record: `None`: malformed, `Some(None)`: before `from`.
    #[expect(
        clippy::option_option,
        reason = "private; a missing byte is `None` by `?`"
    )]
    fn step(&mut self) -> Option<Option<(i64, Record)>> {
        if self.sparse {
            let delta = self.u32()?;
            self.next = self.base + i64::from(delta);
        }
        let len = self.u32()? as usize;
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len())?;
        let offset = self.next;
        self.next += 1;
        if offset < self.from {
            self.at = end;
            return Some(None);
        }
        let timestamp_ms = i64::from_le_bytes(self.array()?);
        let [flags] = self.array()?;
        let key = if flags & HAS_KEY != 0 {
            Some(self.slice_u32()?)
        } else {
            None
        };
        let value = if flags & HAS_VALUE != 0 {
            Some(self.slice_u32()?)
        } else {
            None
        };
        let count = u16::from_le_bytes(self.array()?);
        let mut headers = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let len = usize::from(u16::from_le_bytes(self.array()?));
            let name = self.slice(len)?;
            let name = std::str::from_utf8(&name).ok()?.to_owned();
            headers.push((name, self.slice_u32()?));
        }
        (self.at == end).then_some(Some((
            offset,
            Record {
                key,
                value,
                headers,
                timestamp_ms,
            },
        )))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = self.bytes.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(found)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn slice_u32(&mut self) -> Option<Bytes> {
        let len = self.u32()? as usize;
        self.slice(len)
    }

    fn slice(&mut self, len: usize) -> Option<Bytes> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len())?;
        let found = self.bytes.slice(self.at..end);
        self.at = end;
        Some(found)
    }
}

/// Keeps the last record of each key; a tombstone goes once it is older than `tombstones_before_ms`, a record without a
/// key stays. The result covers the same offsets in batches of about `bytes_max`, the first beginning where the first did.
pub(super) fn compact(
    batches: &[Batch],
    tombstones_before_ms: i64,
    bytes_max: usize,
) -> Result<Vec<Batch>, Malformed> {
    let mut last = std::collections::HashMap::<Bytes, i64>::new();
    for batch in batches {
        for found in batch.records_from(i64::MIN) {
            let (offset, record) = found?;
            if let Some(key) = record.key {
                last.insert(key, offset);
            }
        }
    }
    let mut out = Vec::new();
    let (Some(first), Some(end)) = (
        batches.first().map(|b| b.base),
        batches.last().map(Batch::end),
    ) else {
        return Ok(out);
    };
    let (mut base, mut chunk) = (first, Chunk::new(0));
    for batch in batches {
        for found in batch.records_from(i64::MIN) {
            let (offset, record) = found?;
            let latest = record
                .key
                .as_ref()
                .is_none_or(|key| last.get(key) == Some(&offset));
            let expired = record.value.is_none() && record.timestamp_ms < tombstones_before_ms;
            if !latest || expired {
                continue;
            }
            if chunk.len() >= bytes_max || offset - base > i64::from(u32::MAX / 2) {
                let full = std::mem::replace(&mut chunk, Chunk::new(0));
                out.push(full.seal_as(base, (offset - base) as u32, SPARSE));
                base = offset;
            }
            chunk.push_sparse((offset - base) as u32, &record);
        }
    }
    out.push(chunk.seal_as(base, (end - base) as u32, SPARSE));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&str>, value: Option<&str>) -> Record {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Record {
            key: key.map(bytes),
            value: value.map(bytes),
            headers: vec![("h".into(), Bytes::from_static(&[0, 255]))],
            timestamp_ms: 7,
        }
    }

    fn batch(base: i64, records: &[Record]) -> Batch {
        let mut chunk = Chunk::new(0);
        records.iter().for_each(|r| chunk.push(r));
        chunk.seal(base)
    }

    #[test]
    fn what_is_written_is_read() {
        let records = [
            record(Some("k"), Some("v")),
            record(None, Some("")),
            record(Some(""), None),
            record(None, None),
        ];
        let sealed = batch(10, &records);
        sealed.check().unwrap();
        let read: Vec<_> = sealed.records_from(0).map(Result::unwrap).collect();
        assert_eq!(
            read,
            records
                .iter()
                .cloned()
                .enumerate()
                .map(|(i, r)| (10 + i as i64, r))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            sealed
                .records_from(12)
                .map(|r| r.unwrap().0)
                .collect::<Vec<_>>(),
            [12, 13]
        );
    }

    #[test]
    fn joined_chunks_are_one_batch() {
        let mut one = Chunk::new(0);
        one.push(&record(None, Some("a")));
        let mut two = Chunk::new(0);
        two.push(&record(None, Some("b")));
        one.join(&two);
        let sealed = one.seal(0);
        assert_eq!((sealed.span, sealed.end()), (2, 2));
        assert_eq!(
            sealed
                .records_from(1)
                .next()
                .unwrap()
                .unwrap()
                .1
                .value
                .unwrap(),
            "b"
        );
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed() {
        let sealed = batch(0, &[record(Some("key"), Some("value"))]);
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at] ^= 0x10;
            let flipped = Batch {
                bytes: bytes.into(),
                ..sealed.clone()
            };
            // the flags byte is outside the checksum's reach, but a sparse reading of a dense batch does not add up
            let wrong =
                flipped.check().is_err() || flipped.records_from(0).any(|r| r.is_err()) || at == 1;
            assert!(wrong, "byte {at}");
            let cut = Batch {
                bytes: sealed.bytes.slice(..at),
                ..sealed.clone()
            };
            assert!(cut.check().is_err(), "cut at {at}");
        }
    }

    #[test]
    fn compaction_keeps_the_last_of_each_key() {
        let one = batch(
            0,
            &[
                record(Some("a"), Some("1")),
                record(Some("b"), Some("1")),
                record(None, Some("x")),
            ],
        );
        let two = batch(3, &[record(Some("a"), Some("2")), record(Some("b"), None)]);
        let compacted = compact(&[one.clone(), two.clone()], 0, 1 << 20).unwrap();
        assert_eq!(compacted.len(), 1);
        assert_eq!((compacted[0].base, compacted[0].end()), (0, 5));
        let offsets = |b: &[Batch]| {
            b.iter()
                .flat_map(|b| b.records_from(0))
                .map(|r| r.unwrap().0)
                .collect::<Vec<_>>()
        };
        assert_eq!(offsets(&compacted), [2, 3, 4]);
        assert_eq!(
            offsets(&compact(&[one.clone(), two.clone()], 8, 1 << 20).unwrap()),
            [2, 3],
            "an old tombstone goes"
        );
        let small = compact(&[one, two], 0, 1).unwrap();
        assert_eq!(
            small.iter().map(|b| (b.base, b.end())).collect::<Vec<_>>(),
            [(0, 3), (3, 4), (4, 5)]
        );
        assert_eq!(
            offsets(&compact(&small, 0, 1 << 20).unwrap()),
            [2, 3, 4],
            "again, of compacted ones"
        );
    }
}
