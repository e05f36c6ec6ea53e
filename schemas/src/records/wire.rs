//! The Confluent wire format: a zero byte, a schema id of four bytes (big endian), the Avro body.
//!
//! Without a registry the id is Weir's own: the top bit set, then the record's kind and the version of its schema. No
//! registry gives such an id out, so a reader can tell the two apart for ever.

use bytes::Bytes;
use thiserror::Error;

const MAGIC: u8 = 0;
const OWN: u32 = 1 << 31;

/// Which record it is; part of Weir's own schema ids, so the numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Trigger = 1,
    Hop = 2,
    Result = 3,
}

/// Why bytes are not the record they should be. None of these can get better by trying again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("the record has no value")]
    Empty,
    #[error("the record starts with byte {0:#04x} instead of the wire format's 0x00")]
    Magic(u8),
    #[error("schema id {id:#010x} is not one of Weir's for a {expected:?}")]
    Schema { id: u32, expected: Kind },
    #[error("the record ends in the middle of a field, at byte {at}")]
    Truncated { at: usize },
    #[error("{what}, at byte {at}")]
    Malformed { at: usize, what: &'static str },
}

/// The five bytes before a body of `kind` in its present version.
pub(crate) fn prefix(kind: Kind, version: u8) -> [u8; 5] {
    let id = (OWN | (kind as u32) << 8 | u32::from(version)).to_be_bytes();
    [MAGIC, id[0], id[1], id[2], id[3]]
}

/// Checks the prefix; gives the schema's version and where the body starts.
pub(crate) fn open(record: &Bytes, expected: Kind) -> Result<(u8, usize), RecordError> {
    match record.first() {
        None => return Err(RecordError::Empty),
        Some(&MAGIC) => {}
        Some(&other) => return Err(RecordError::Magic(other)),
    }
    let id: [u8; 4] = record
        .get(1..5)
        .and_then(|id| id.try_into().ok())
        .ok_or(RecordError::Truncated { at: record.len() })?;
    let id = u32::from_be_bytes(id);
    if id >> 8 != (OWN | (expected as u32) << 8) >> 8 {
        return Err(RecordError::Schema { id, expected });
    }
    Ok((id as u8, 5))
}
