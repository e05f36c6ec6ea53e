//! Kafka's frames, as far as the proxy has to understand them: four bytes of length, then a header; of a body only whose
//! transaction it is about, and of an answer only whether it is an error. What cannot be understood is passed on.

use std::io::{self, ErrorKind, Read, Write};

/// Longer ones are taken for garbage.
const BYTES_MAX: usize = 64 << 20;

/// Api keys.
pub mod api {
    pub const PRODUCE: i16 = 0;
    pub const INIT_PRODUCER_ID: i16 = 22;
    pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
    pub const ADD_OFFSETS_TO_TXN: i16 = 25;
    pub const END_TXN: i16 = 26;
    pub const TXN_OFFSET_COMMIT: i16 = 28;

    /// Kafka's own name of those above.
    pub fn name(api: i16) -> &'static str {
        match api {
            PRODUCE => "Produce",
            INIT_PRODUCER_ID => "InitProducerId",
            ADD_PARTITIONS_TO_TXN => "AddPartitionsToTxn",
            ADD_OFFSETS_TO_TXN => "AddOffsetsToTxn",
            END_TXN => "EndTxn",
            TXN_OFFSET_COMMIT => "TxnOffsetCommit",
            _ => "another request",
        }
    }

    /// The first version whose header and body have tagged fields and compact strings.
    pub(super) fn flexible_since(api: i16) -> i16 {
        match api {
            PRODUCE => 9,
            INIT_PRODUCER_ID => 2,
            ADD_PARTITIONS_TO_TXN | ADD_OFFSETS_TO_TXN | END_TXN | TXN_OFFSET_COMMIT => 3,
            _ => i16::MAX,
        }
    }
}

/// Reads a frame without its length; none at a proper end.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = usize::try_from(i32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= BYTES_MAX)
        .ok_or(ErrorKind::InvalidData)?;
    let mut frame = Vec::new();
    from.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

pub(super) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(frame.len() + 4);
    whole.extend((frame.len() as u32).to_be_bytes());
    whole.extend(frame);
    to.write_all(&whole)
}

/// What the proxy knows of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub api: i16,
    pub version: i16,
    pub correlation: i32,
    pub transactional_id: Option<String>,
    /// Of `END_TXN`: whether it commits.
    pub commits: Option<bool>,
}

impl Request {
    /// None for what is too short to be a request.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut rest = Rest(frame);
        let mut request = Self {
            api: rest.i16()?,
            version: rest.i16()?,
            correlation: rest.i32()?,
            transactional_id: None,
            commits: None,
        };
        let flexible = request.version >= api::flexible_since(request.api);
        if rest.body(flexible).is_none() || api::name(request.api) == "another request" {
            return Some(request);
        }
        request.transactional_id = rest.string(flexible).flatten();
        if request.api == api::END_TXN && request.transactional_id.is_some() {
            // producer id and epoch lie between
            request.commits = rest.take(10).and_then(|_| rest.take(1)).map(|b| b[0] != 0);
        }
        Some(request)
    }
}

/// Gives a request another correlation id.
pub(super) fn correlate(frame: &mut [u8], correlation: i32) {
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&correlation.to_be_bytes());
    }
}

/// The correlation id that an answer carries.
pub(super) fn correlation(frame: &[u8]) -> Option<i32> {
    Rest(frame).i32()
}

/// The error that an answer to this request carries, 0 for none; not known of every kind of request.
pub(super) fn error(request: &Request, answer: &[u8]) -> Option<i16> {
    let flexible = request.version >= api::flexible_since(request.api);
    let mut rest = Rest(answer);
    rest.i32()?;
    if flexible {
        rest.tags()?;
    }
    match request.api {
        api::END_TXN | api::ADD_OFFSETS_TO_TXN | api::INIT_PRODUCER_ID => {
            rest.i32()?;
            rest.i16()
        }
        // librdkafka asks in version 0
        api::ADD_PARTITIONS_TO_TXN | api::TXN_OFFSET_COMMIT if request.version <= 3 => {
            rest.i32()?;
            let mut first = 0;
            for _ in 0..rest.count(flexible)? {
                rest.string(flexible)?;
                for _ in 0..rest.count(flexible)? {
                    rest.i32()?;
                    let error = rest.i16()?;
                    first = if first == 0 { error } else { first };
                    if flexible {
                        rest.tags()?;
                    }
                }
                if flexible {
                    rest.tags()?;
                }
            }
            Some(first)
        }
        _ => None,
    }
}

/// What has not been read of a frame; every reading gives none where it ends too early.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let bytes = self.varint()?;
            self.take(bytes)?;
        }
        Some(())
    }

    /// Skips the rest of a request's header: the client id, never compact, and the tags.
    fn body(&mut self, flexible: bool) -> Option<()> {
        self.string(false)?;
        if flexible {
            self.tags()?;
        }
        Some(())
    }

    fn string(&mut self, compact: bool) -> Option<Option<String>> {
        let length = if compact {
            self.varint()?.checked_sub(1)
        } else {
            usize::try_from(self.i16()?).ok()
        };
        let Some(length) = length else {
            return Some(None);
        };
        Some(Some(String::from_utf8(self.take(length)?.to_vec()).ok()?))
    }

    fn count(&mut self, compact: bool) -> Option<usize> {
        if compact {
            self.varint()?.checked_sub(1)
        } else {
            usize::try_from(self.i32()?).ok()
        }
    }
}
