//! Which schema a record was written with: an id before its body, or in a header beside it. Pure.

use std::fmt;

use bytes::Bytes;

const VALUE_HEADER: &str = "__value_schema_id";
const KEY_HEADER: &str = "__key_schema_id";
/// Followed by a number of four bytes, big endian.
const NUMBER: u8 = 0;
/// Followed by 16 bytes (Confluent Schema Registry 8).
const GUID: u8 = 1;

/// How a registry names a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    Number(u32),
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => uuid::Uuid::from_bytes(*guid).fmt(f),
        }
    }
}

/// Why a record names no schema. None of these can get better by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("the record has no schema id: it is empty")]
    Empty,
    #[error(
        "the record has no schema id: it begins with byte {0:#04x} instead of 0x00, and has no header \"{VALUE_HEADER}\"; was it written with a registry's serializer?"
    )]
    Unframed(u8),
    #[error("the record ends in the middle of its schema id")]
    Truncated,
    #[error("the header \"{name}\" is no schema id: {reason}")]
    Header { name: &'static str, reason: String },
}

/// The schema's id and the body of a record's value. The header counts where there is one: the value is then the body.
pub fn framing(
    headers: &[(String, Bytes)],
    value: &Bytes,
) -> Result<(SchemaId, Bytes), FramingError> {
    framed(VALUE_HEADER, headers, value)
}

/// The same of a record's key.
pub fn framing_of_key(
    headers: &[(String, Bytes)],
    key: &Bytes,
) -> Result<(SchemaId, Bytes), FramingError> {
    framed(KEY_HEADER, headers, key)
}

fn framed(
    name: &'static str,
    headers: &[(String, Bytes)],
    payload: &Bytes,
) -> Result<(SchemaId, Bytes), FramingError> {
    // of several the last counts, as for Confluent's clients
    if let Some((_, header)) = headers.iter().rev().find(|(found, _)| found == name) {
        return match id(header) {
            Ok((id, length)) if length == header.len() => Ok((id, payload.clone())),
            Ok((_, length)) => Err(FramingError::Header {
                name,
                reason: format!("{} bytes follow it", header.len() - length),
            }),
            Err(error) => Err(FramingError::Header {
                name,
                reason: match error {
                    FramingError::Empty => "it is empty".to_owned(),
                    FramingError::Unframed(byte) => {
                        format!("it begins with byte {byte:#04x} instead of 0x00 or 0x01")
                    }
                    _ => "it ends in the middle".to_owned(),
                },
            }),
        };
    }
    let (id, length) = id(payload)?;
    Ok((id, payload.slice(length..)))
}

/// The id that bytes begin with, and how long it is.
fn id(bytes: &[u8]) -> Result<(SchemaId, usize), FramingError> {
    let (magic, rest) = bytes.split_first().ok_or(FramingError::Empty)?;
    match *magic {
        NUMBER => {
            let number = rest.first_chunk().ok_or(FramingError::Truncated)?;
            Ok((SchemaId::Number(u32::from_be_bytes(*number)), 5))
        }
        GUID => {
            let guid = rest.first_chunk().ok_or(FramingError::Truncated)?;
            Ok((SchemaId::Guid(*guid), 17))
        }
        other => Err(FramingError::Unframed(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID_BYTES: [u8; 16] = [
        0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0, 0,
    ];

    fn header(name: &str, value: &[u8]) -> Vec<(String, Bytes)> {
        vec![(name.to_owned(), Bytes::copy_from_slice(value))]
    }

    #[test]
    fn before_the_body_or_in_a_header() {
        let prefixed = Bytes::from_static(&[0, 0, 0, 1, 2, 9, 9]);
        let bare = Bytes::from_static(&[9, 9]);
        let number = Ok((SchemaId::Number(258), bare.clone()));
        assert_eq!(framing(&[], &prefixed), number);
        let guid = [&[1][..], &GUID_BYTES].concat();
        let by_guid = Ok((SchemaId::Guid(GUID_BYTES), bare.clone()));
        assert_eq!(framing(&header(VALUE_HEADER, &guid), &bare), by_guid);
        let prefixed_guid = Bytes::from([&guid[..], &[9, 9]].concat());
        assert_eq!(framing(&[], &prefixed_guid), by_guid);
        // the header says that the value is bare, whatever it begins with
        let in_header = header(VALUE_HEADER, &[0, 0, 0, 1, 2]);
        assert_eq!(
            framing(&in_header, &prefixed),
            Ok((SchemaId::Number(258), prefixed.clone()))
        );
        // the key's header says nothing of the value
        assert_eq!(framing(&header(KEY_HEADER, &guid), &prefixed), number);
        assert_eq!(framing_of_key(&header(KEY_HEADER, &guid), &bare), by_guid);
        let mut two = header(VALUE_HEADER, &[0, 0, 0, 0, 7]);
        two.extend(header(VALUE_HEADER, &guid));
        assert_eq!(framing(&two, &bare), by_guid);
        assert_eq!(
            SchemaId::Guid(GUID_BYTES).to_string(),
            "550e8400-e29b-41d4-a716-446655440000"
        );
        assert_eq!(
            framing(&[], &Bytes::from_static(&[0, 0, 0, 0, 1])).map(|(_, body)| body.len()),
            Ok(0)
        );
    }

    #[test]
    fn what_names_no_schema() {
        let check = |headers: &[(String, Bytes)], value: &'static [u8], reason: &str| {
            let error = framing(headers, &Bytes::from_static(value)).expect_err(reason);
            assert_eq!(error.to_string(), reason);
        };
        check(&[], b"", "the record has no schema id: it is empty");
        check(
            &[],
            b"{}",
            "the record has no schema id: it begins with byte 0x7b instead of 0x00, and has no header \"__value_schema_id\"; was it written with a registry's serializer?",
        );
        check(
            &[],
            &[0, 0, 0, 1],
            "the record ends in the middle of its schema id",
        );
        check(
            &[],
            &[1, 0, 0, 1],
            "the record ends in the middle of its schema id",
        );
        check(
            &header(VALUE_HEADER, &[]),
            b"x",
            "the header \"__value_schema_id\" is no schema id: it is empty",
        );
        check(
            &header(VALUE_HEADER, &[1, 2]),
            b"x",
            "the header \"__value_schema_id\" is no schema id: it ends in the middle",
        );
        check(
            &header(VALUE_HEADER, b"17"),
            b"x",
            "the header \"__value_schema_id\" is no schema id: it begins with byte 0x31 instead of 0x00 or 0x01",
        );
        check(
            &header(VALUE_HEADER, &[0, 0, 0, 0, 7, 0]),
            b"x",
            "the header \"__value_schema_id\" is no schema id: 1 bytes follow it",
        );
    }
}
