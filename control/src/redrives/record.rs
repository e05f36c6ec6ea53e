//! The bytes under which the store keeps a record that is to be emitted.
//!
//! A version byte, then: timestamp (i64), partition (i32, -1 for none), topic, key, value, headers. A text or value has
//! its length + 1 (u32) in front, 0 stands for none; headers have their count (u32). All little endian. Read for ever: a
//! row may outlive an update of the program.

use bytes::Bytes;
use topics::{Outgoing, Record};

const VERSION: u8 = 1;

pub(super) fn encode(outgoing: &Outgoing) -> Bytes {
    let Record {
        key,
        value,
        headers,
        timestamp_ms,
    } = &outgoing.record;
    let mut out = vec![VERSION];
    out.extend_from_slice(&timestamp_ms.to_le_bytes());
    let partition = outgoing.partition.map_or(-1, |number| number as i32);
    out.extend_from_slice(&partition.to_le_bytes());
    put(&mut out, Some(outgoing.topic.as_bytes()));
    put(&mut out, key.as_deref());
    put(&mut out, value.as_deref());
    out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        put(&mut out, Some(name.as_bytes()));
        put(&mut out, Some(value));
    }
    Bytes::from(out)
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(0, |bytes| bytes.len() as u32 + 1);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// `None`: the bytes are not what `encode` wrote.
pub(super) fn decode(bytes: &Bytes) -> Option<Outgoing> {
    let mut rest = bytes.clone();
    if take(&mut rest, 1)?[..] != [VERSION] {
        return None;
    }
    let timestamp_ms = i64::from_le_bytes(take(&mut rest, 8)?[..].try_into().ok()?);
    let partition = number(&mut rest)? as i32;
    let topic = text(&mut rest)?;
    let (key, value) = (get(&mut rest)?, get(&mut rest)?);
    let count = number(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((text(&mut rest)?, get(&mut rest)??));
    }
    let record = Record {
        key,
        value,
        headers,
        timestamp_ms,
    };
    rest.is_empty().then_some(Outgoing {
        topic: topic.into(),
        partition: u32::try_from(partition).ok(),
        record,
    })
}

fn take(rest: &mut Bytes, count: usize) -> Option<Bytes> {
    (rest.len() >= count).then(|| rest.split_to(count))
}

fn number(rest: &mut Bytes) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?[..].try_into().ok()?))
}

fn get(rest: &mut Bytes) -> Option<Option<Bytes>> {
    match number(rest)? {
        0 => Some(None),
        length => take(rest, length as usize - 1).map(Some),
    }
}

fn text(rest: &mut Bytes) -> Option<String> {
    String::from_utf8(get(rest)??.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(partition: Option<u32>, key: Option<&'static [u8]>) -> Outgoing {
        let header =
            |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
        let record = Record {
            key: key.map(Bytes::from_static),
            value: None,
            headers: vec![header("a", b"\xff\x00"), header("", b""), header("a", b"1")],
            timestamp_ms: -7,
        };
        Outgoing {
            topic: "t".into(),
            partition,
            record,
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for (partition, key) in [
            (None, None),
            (Some(0), Some(&b""[..])),
            (Some(9), Some(b"k")),
        ] {
            let outgoing = outgoing(partition, key);
            assert_eq!(decode(&encode(&outgoing)), Some(outgoing));
        }
    }

    #[test]
    fn cut_or_foreign_bytes_are_refused() {
        let bytes = encode(&outgoing(None, Some(b"key")));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes.slice(..end)), None, "cut at {end}");
        }
        assert_eq!(decode(&Bytes::from([&bytes[..], b"x"].concat())), None);
    }
}
