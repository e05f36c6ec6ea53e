//! The Confluent wire format: a zero byte, a schema id of four bytes (big endian), the Avro body.
//!
//! Without a registry the id is Weir's own: the top bit set, then the record's kind and the version of its schema. No
//! registry gives such an id out, so a reader can tell the two apart for ever. With one it is the registry's, so that
//! everybody else can read the record, and readers here take both: a topic may hold records from before and after.
//!
//! Which ids are written is the one setting of a process as a whole (`use_ids`). It is no argument of each record's
//! encoder because it is the same for all of them, changes nothing of what a record says, and would otherwise run through
//! every stage. It is set at the start, before any record is written, and never changes.

use std::sync::OnceLock;

use bytes::Bytes;
use thiserror::Error;

use super::{hop, result, trigger};

const MAGIC: u8 = 0;
const OWN: u32 = 1 << 31;

/// Which record it is; part of Weir's own schema ids, so the numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// The schemas that Weir's records are written with: kind, version, text.
pub fn schemas() -> [(Kind, u8, &'static str); 3] {
    [
        (Kind::Trigger, trigger::VERSION, trigger::SCHEMA),
        (Kind::Hop, hop::VERSION, hop::SCHEMA),
        (Kind::Result, result::VERSION, result::SCHEMA),
    ]
}

/// The ids that a registry gave to Weir's own schemas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnIds {
    given: Vec<(Kind, u8, u32)>,
}

/// Why ids of a registry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdsError {
    #[error("schema id {id:#010x} is one that Weir uses where there is no registry")]
    Reserved { id: u32 },
    #[error("schema id {id} is that of another record of Weir's as well")]
    Shared { id: u32 },
    #[error("this process writes with other schema ids already")]
    InUse,
}

impl OwnIds {
    /// A schema of Weir's has this id.
    pub fn add(&mut self, kind: Kind, version: u8, id: u32) -> Result<(), IdsError> {
        if id & OWN != 0 {
            return Err(IdsError::Reserved { id });
        }
        if self.given.iter().any(|(_, _, given)| *given == id) {
            return Err(IdsError::Shared { id });
        }
        self.given.push((kind, version, id));
        Ok(())
    }

    fn id(&self, kind: Kind, version: u8) -> u32 {
        let given = self.given.iter().find(|g| (g.0, g.1) == (kind, version));
        given.map_or(OWN | (kind as u32) << 8 | u32::from(version), |g| g.2)
    }

    /// The version that an id stands for; `None`: none of this kind.
    fn version(&self, id: u32, expected: Kind) -> Option<u8> {
        if id & OWN != 0 {
            return (id >> 8 == (OWN | (expected as u32) << 8) >> 8).then_some(id as u8);
        }
        match self.given.iter().find(|(_, _, given)| *given == id) {
            Some((kind, version, _)) => (*kind == expected).then_some(*version),
            None => Some(FIRST),
        }
    }
}

/// What an id of a registry stands for that was not given to this process: there may be no registry any more, or another.
/// Whoever makes a second version has to register the first as well, and a reader without a registry then has to tell
/// them apart by what they hold.
const FIRST: u8 = 1;

static IDS: OnceLock<OwnIds> = OnceLock::new();

/// From now on this process writes with these ids. Once, before it writes anything; the same ones again are no error.
pub fn use_ids(ids: OwnIds) -> Result<(), IdsError> {
    if *IDS.get_or_init(|| ids.clone()) == ids {
        Ok(())
    } else {
        Err(IdsError::InUse)
    }
}

fn ids() -> &'static OwnIds {
    static NONE: OwnIds = OwnIds { given: Vec::new() };
    IDS.get().unwrap_or(&NONE)
}

/// The five bytes before a body of `kind` in its present version.
pub(crate) fn prefix(kind: Kind, version: u8) -> [u8; 5] {
    let id = ids().id(kind, version).to_be_bytes();
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
    match ids().version(id, expected) {
        Some(version) => Ok((version, 5)),
        None => Err(RecordError::Schema { id, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_registry_and_with_one() {
        let mut ids = OwnIds::default();
        assert_eq!(ids.id(Kind::Hop, 1), 0x8000_0201);
        ids.add(Kind::Trigger, 1, 17).expect("an id");
        ids.add(Kind::Hop, 2, 18).expect("an id");
        assert_eq!(ids.id(Kind::Trigger, 1), 17);
        assert_eq!(ids.id(Kind::Hop, 2), 18);
        assert_eq!(ids.id(Kind::Result, 1), 0x8000_0301, "not registered");
        // both are read
        assert_eq!(ids.version(17, Kind::Trigger), Some(1));
        assert_eq!(ids.version(18, Kind::Hop), Some(2));
        assert_eq!(ids.version(0x8000_0101, Kind::Trigger), Some(1));
        assert_eq!(ids.version(17, Kind::Hop), None, "that of a trigger");
        assert_eq!(ids.version(0x8000_0201, Kind::Trigger), None);
        assert_eq!(
            ids.version(99, Kind::Hop),
            Some(FIRST),
            "of another registry"
        );
        assert_eq!(
            ids.add(Kind::Result, 1, 17),
            Err(IdsError::Shared { id: 17 })
        );
        assert_eq!(
            ids.add(Kind::Result, 1, 0x8000_0001),
            Err(IdsError::Reserved { id: 0x8000_0001 })
        );
    }
}
