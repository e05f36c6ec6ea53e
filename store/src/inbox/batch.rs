//! The bytes of one row of `inbox_batches`.
//!
//! A version byte, then for each record: time (i64), key's length + 1 or 0 for no key (u32), value's length (u32), all
//! little endian, key, value. Read for ever: a row may outlive an update of the program.

use bytes::Bytes;

use super::{Entry, Row};

const VERSION: u8 = 1;
const HEAD: usize = 16;

/// How many bytes the entry takes in a batch.
pub(super) fn size(entry: &Entry) -> usize {
    HEAD + entry.record_key.as_ref().map_or(0, Bytes::len) + entry.record.len()
}

pub(super) fn encode<'e>(entries: impl Iterator<Item = &'e Entry> + Clone) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + entries.clone().map(size).sum::<usize>());
    data.push(VERSION);
    for entry in entries {
        let key = entry.record_key.as_deref();
        data.extend_from_slice(&entry.at_ms.to_le_bytes());
        data.extend_from_slice(&key.map_or(0, |key| key.len() as u32 + 1).to_le_bytes());
        data.extend_from_slice(&(entry.record.len() as u32).to_le_bytes());
        data.extend_from_slice(key.unwrap_or_default());
        data.extend_from_slice(&entry.record);
    }
    data
}

/// The records, not numbered yet; `None` where the bytes are no batch. Keys and values are slices of `data`.
pub(super) fn decode(data: &Bytes) -> Option<Vec<Row>> {
    if data.first() != Some(&VERSION) {
        return None;
    }
    let mut rows = Vec::new();
    let mut rest = data.slice(1..);
    while !rest.is_empty() {
        let head = rest.get(..HEAD)?;
        let timestamp_ms = i64::from_le_bytes(head[..8].try_into().ok()?);
        let key = u32::from_le_bytes(head[8..12].try_into().ok()?) as usize;
        let value = u32::from_le_bytes(head[12..16].try_into().ok()?) as usize;
        let key_end = HEAD + key.saturating_sub(1);
        let end = key_end.checked_add(value)?;
        if rest.len() < end {
            return None;
        }
        let record_key = (key > 0).then(|| rest.slice(HEAD..key_end));
        rows.push(Row {
            number: 0,
            timestamp_ms,
            record_key,
            record: rest.slice(key_end..end),
        });
        rest = rest.slice(end..);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use schemas::ExecutionId;

    use super::*;
    use crate::Key;

    fn entry(key: Option<&'static [u8]>, record: &'static [u8]) -> Entry {
        Entry {
            key: Key::new("", "", "", ""),
            body_sha256: [0; 32],
            execution: ExecutionId([0; 16]),
            at_ms: 7,
            record_key: key.map(Bytes::from_static),
            record: Bytes::from_static(record),
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let entries = [
            entry(None, b"a"),
            entry(Some(b""), b""),
            entry(Some(b"key"), b"value"),
        ];
        let data = Bytes::from(encode(entries.iter()));
        let row = |e: &Entry| Row {
            number: 0,
            timestamp_ms: 7,
            record_key: e.record_key.clone(),
            record: e.record.clone(),
        };
        assert_eq!(decode(&data), Some(entries.iter().map(row).collect()));
    }

    #[test]
    fn a_cut_or_foreign_row_is_refused() {
        let data = Bytes::from(encode([entry(Some(b"key"), b"value")].iter()));
        for end in 2..data.len() {
            assert_eq!(decode(&data.slice(..end)), None, "cut at {end}");
        }
        assert_eq!(decode(&Bytes::from_static(b"\x02")), None);
        assert_eq!(decode(&Bytes::new()), None);
    }
}
