//! Avro's binary encoding (Avro 1.12 specification, "Binary encoding"), for the shapes that Weir's records use.
//!
//! By hand, because it runs several times per execution: decoding slices the record's bytes instead of copying them.
//! The oracle is apache-avro with the schemas in `schemas/avro`: tests hold every record to it in both directions.

use bytes::Bytes;

use super::wire::RecordError;
use crate::Event;

use super::trigger::Payload;

/// No record may make a reader allocate more elements than it has bytes.
pub(crate) struct Reader<'a> {
    all: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(all: &'a Bytes, at: usize) -> Self {
        Self { all, at }
    }

    fn truncated(&self) -> RecordError {
        RecordError::Truncated { at: self.at }
    }

    pub(crate) fn long(&mut self) -> Result<i64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.all.get(self.at).ok_or_else(|| self.truncated())?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(RecordError::Malformed {
            at: self.at,
            what: "a number of more than 64 bits",
        })
    }

    pub(crate) fn int(&mut self) -> Result<i32, RecordError> {
        let at = self.at;
        i32::try_from(self.long()?).map_err(|_| RecordError::Malformed {
            at,
            what: "an int out of range",
        })
    }

    fn length(&mut self) -> Result<usize, RecordError> {
        let at = self.at;
        usize::try_from(self.long()?).map_err(|_| RecordError::Malformed {
            at,
            what: "a negative length",
        })
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let length = self.length()?;
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.all.len())
            .ok_or_else(|| self.truncated())?;
        let slice = self.all.slice(self.at..end);
        self.at = end;
        Ok(slice)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, RecordError> {
        let length = self.length()?;
        let start = self.at;
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.all.len())
            .ok_or_else(|| self.truncated())?;
        self.at = end;
        std::str::from_utf8(&self.all[start..end]).map_err(|_| RecordError::Malformed {
            at: start,
            what: "a string that is not UTF-8",
        })
    }

    pub(crate) fn string(&mut self) -> Result<String, RecordError> {
        Ok(self.str()?.to_owned())
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let slice = self
            .all
            .get(self.at..self.at + N)
            .ok_or_else(|| self.truncated())?;
        let mut out = [0; N];
        out.copy_from_slice(slice);
        self.at += N;
        Ok(out)
    }

    /// `["null", T]`
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        let at = self.at;
        match self.long()? {
            0 => Ok(None),
            1 => Ok(Some(read(self)?)),
            _ => Err(RecordError::Malformed {
                at,
                what: "an unknown branch of a union",
            }),
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let mut items = Vec::new();
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                self.long()?; // the block's size in bytes: only for skipping
                count = count.checked_neg().ok_or_else(|| self.truncated())?;
            }
            if count as u64 > (self.all.len() - self.at) as u64 {
                return Err(self.truncated());
            }
            items.reserve(count as usize);
            for _ in 0..count {
                items.push(read(self)?);
            }
        }
    }

    pub(crate) fn payload(&mut self) -> Result<Payload, RecordError> {
        let at = self.at;
        match self.long()? {
            0 => Ok(Payload::Inline(self.bytes()?)),
            1 => {
                let sha256 = self.fixed()?;
                let bytes = u64::try_from(self.long()?).map_err(|_| RecordError::Malformed {
                    at,
                    what: "a negative size",
                })?;
                Ok(Payload::Reference { sha256, bytes })
            }
            _ => Err(RecordError::Malformed {
                at,
                what: "an unknown branch of a union",
            }),
        }
    }

    pub(crate) fn headers(&mut self) -> Result<Vec<(String, Bytes)>, RecordError> {
        self.array(|r| Ok((r.string()?, r.bytes()?)))
    }

    /// Everything must have been read.
    pub(crate) fn end(self) -> Result<(), RecordError> {
        if self.at == self.all.len() {
            Ok(())
        } else {
            Err(RecordError::Malformed {
                at: self.at,
                what: "bytes after the record's end",
            })
        }
    }
}

pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Starts with the wire format's prefix; `capacity`: a guess of the body's size.
    pub(crate) fn new(prefix: [u8; 5], capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity + prefix.len());
        out.extend_from_slice(&prefix);
        Self(out)
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }

    pub(crate) fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as i64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn fixed(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.long(0),
            Some(value) => {
                self.long(1);
                write(self, value);
            }
        }
    }

    pub(crate) fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.long(items.len() as i64);
            for item in items {
                write(self, item);
            }
        }
        self.long(0);
    }

    pub(crate) fn payload(&mut self, data: &Payload) {
        match data {
            Payload::Inline(data) => {
                self.long(0);
                self.bytes(data);
            }
            Payload::Reference { sha256, bytes } => {
                self.long(1);
                self.fixed(sha256);
                self.long(*bytes as i64);
            }
        }
    }

    pub(crate) fn headers(&mut self, headers: &[(String, Bytes)]) {
        self.array(headers, |w, (name, value)| {
            w.string(name);
            w.bytes(value);
        });
    }

    /// An event with inline data, in the field order that all records share.
    pub(crate) fn event(&mut self, event: &Event, data: &Payload) {
        self.option(event.key.as_ref(), |w, key| w.bytes(key));
        self.string(&event.content_type);
        self.headers(&event.headers);
        self.payload(data);
    }
}
