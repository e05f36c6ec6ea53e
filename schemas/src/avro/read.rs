//! Avro bytes → JSON text (Avro 1.12 specification, "Binary encoding").

use super::bounds::Bounds;
use super::error::{AvroError, Wrong};
use super::json::{put, put_base64};
use super::plan::{Id, Plan, Storage, Type, Unit};
use super::{calendar, decimal};

type Read<T = ()> = Result<T, Box<Wrong>>;

pub(super) fn read(plan: &Plan, body: &[u8], json: &mut Vec<u8>) -> Result<(), AvroError> {
    let start = json.len();
    // most texts are about twice as long as the bytes
    json.reserve(body.len().saturating_mul(2).min(1 << 20));
    let mut reader = Reader {
        plan,
        body,
        at: 0,
        json,
        bounds: Bounds::new(body.len(), start),
    };
    let read = reader.value(plan.root, 0).and_then(|()| {
        if reader.at == body.len() {
            Ok(())
        } else {
            Err(Wrong::new("bytes are left after its end"))
        }
    });
    let at = reader.at;
    read.map_err(|wrong| {
        json.truncate(start);
        wrong.reading(at)
    })
}

struct Reader<'a> {
    plan: &'a Plan,
    body: &'a [u8],
    /// After an error: where what is wrong begins.
    at: usize,
    json: &'a mut Vec<u8>,
    bounds: Bounds,
}

impl<'a> Reader<'a> {
    fn value(&mut self, of: Id, depth: usize) -> Read {
        self.bounds.step(depth, self.json.len())?;
        let plan = self.plan;
        match &plan.types[of] {
            Type::Null => self.json.extend_from_slice(b"null"),
            Type::Boolean => match self.take(1)?[0] {
                0 => self.json.extend_from_slice(b"false"),
                1 => self.json.extend_from_slice(b"true"),
                other => return self.wrong(1, format!("a boolean is 0 or 1, this is {other}")),
            },
            Type::Int => {
                let value = self.int()?;
                put(self.json, &value);
            }
            Type::Long => {
                let value = self.long()?;
                put(self.json, &value);
            }
            Type::Float => {
                let value = f32::from_le_bytes(self.array()?);
                match special(value.into()) {
                    Some(text) => self.json.extend_from_slice(text),
                    None => put(self.json, &value),
                }
            }
            Type::Double => {
                let value = f64::from_le_bytes(self.array()?);
                match special(value) {
                    Some(text) => self.json.extend_from_slice(text),
                    None => put(self.json, &value),
                }
            }
            Type::Bytes => {
                let bytes = self.bytes()?;
                put_base64(self.json, bytes);
            }
            Type::String | Type::UuidText => {
                let text = self.text()?;
                put(self.json, text);
            }
            Type::Fixed(size) => {
                let bytes = self.take(*size)?;
                put_base64(self.json, bytes);
            }
            Type::Enum(known) => {
                let start = self.at;
                let place = self.long()?;
                let symbol = usize::try_from(place)
                    .ok()
                    .and_then(|place| known.symbols.get(place));
                match symbol {
                    Some(symbol) => self.json.extend_from_slice(symbol),
                    None => {
                        let count = known.symbols.len();
                        return self.wrong(
                            self.at - start,
                            format!(
                                "the enum {} has {count} symbols, none with number {place}",
                                known.name
                            ),
                        );
                    }
                }
            }
            Type::Union(branches) => {
                let start = self.at;
                let place = self.long()?;
                let branch = usize::try_from(place)
                    .ok()
                    .and_then(|place| branches.get(place));
                match branch {
                    Some(branch) => self.value(branch.of, depth + 1)?,
                    None => {
                        let count = branches.len();
                        return self.wrong(
                            self.at - start,
                            format!("the union has {count} branches, none with number {place}"),
                        );
                    }
                }
            }
            Type::Record(record) => {
                self.json.push(b'{');
                for (place, field) in record.fields.iter().enumerate() {
                    if place > 0 {
                        self.json.push(b',');
                    }
                    self.json.extend_from_slice(&field.member);
                    self.value(field.of, depth + 1)
                        .map_err(|wrong| wrong.in_field(&field.name))?;
                }
                self.json.push(b'}');
            }
            Type::Array(item) => {
                self.json.push(b'[');
                let mut number = 0;
                self.blocks(|reader| {
                    if number > 0 {
                        reader.json.push(b',');
                    }
                    reader
                        .value(*item, depth + 1)
                        .map_err(|wrong| wrong.in_item(number))?;
                    number += 1;
                    Ok(())
                })?;
                self.json.push(b']');
            }
            Type::Map(item) => {
                self.json.push(b'{');
                let mut first = true;
                self.blocks(|reader| {
                    if !first {
                        reader.json.push(b',');
                    }
                    first = false;
                    let key = reader.text()?;
                    put(reader.json, key);
                    reader.json.push(b':');
                    reader
                        .value(*item, depth + 1)
                        .map_err(|wrong| wrong.in_entry(key))
                })?;
                self.json.push(b'}');
            }
            Type::Decimal { scale, storage, .. } => {
                let start = self.at;
                let bytes = self.stored(*storage)?;
                self.decimal(start, bytes, *scale as i64)?;
            }
            Type::BigDecimal => self.big_decimal()?,
            Type::UuidBytes(storage) => {
                let start = self.at;
                let bytes = self.stored(*storage)?;
                match uuid::Uuid::from_slice(bytes) {
                    Ok(uuid) => put(self.json, &*uuid.hyphenated().encode_lower(&mut [0; 36])),
                    Err(_) => {
                        let length = bytes.len();
                        return self.wrong(
                            self.at - start,
                            format!("a UUID has 16 bytes, this has {length}"),
                        );
                    }
                }
            }
            Type::Date => {
                let days = self.int()?.into();
                self.quoted(days, |json| calendar::put_date(json, days));
            }
            Type::Time(unit) => {
                let time = match unit {
                    Unit::Millis => self.int()?.into(),
                    _ => self.long()?,
                };
                self.quoted(time, |json| calendar::put_time(json, time, *unit));
            }
            Type::Timestamp { unit, local } => {
                let time = self.long()?;
                self.quoted(time, |json| {
                    calendar::put_timestamp(json, time, *unit)?;
                    if !local {
                        json.push(b'Z');
                    }
                    Some(())
                });
            }
            Type::Duration => {
                for name in ["{\"months\":", ",\"days\":", ",\"millis\":"] {
                    self.json.extend_from_slice(name.as_bytes());
                    let part = u32::from_le_bytes(self.array()?);
                    put(self.json, &part);
                }
                self.json.push(b'}');
            }
        }
        Ok(())
    }

    /// Text in quotes, or the raw number where there is no text for it.
    fn quoted(&mut self, raw: i64, text: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        let start = self.json.len();
        self.json.push(b'"');
        if text(self.json).is_some() {
            self.json.push(b'"');
        } else {
            self.json.truncate(start);
            put(self.json, &raw);
        }
    }

    fn decimal(&mut self, start: usize, unscaled: &[u8], scale: i64) -> Read {
        self.json.push(b'"');
        if decimal::put(self.json, unscaled, scale).is_none() {
            let length = unscaled.len();
            return self.wrong(
                self.at - start,
                format!("a decimal of {length} bytes with scale {scale} is too long"),
            );
        }
        self.json.push(b'"');
        Ok(())
    }

    /// Bytes within which an unscaled number, as bytes, and its scale stand.
    fn big_decimal(&mut self) -> Read {
        let start = self.at;
        let inner = self.bytes()?.len();
        let after = self.at;
        self.at = after - inner;
        let unscaled = self.bytes()?;
        let scale = self.long()?;
        if self.at != after {
            self.at = after;
            return self.wrong(
                after - start,
                "a big-decimal is a number and its scale, this is not".to_owned(),
            );
        }
        self.decimal(start, unscaled, scale)
    }

    /// The items of an array or a map, which come in blocks.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Read) -> Read {
        loop {
            let start = self.at;
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // the block's size in bytes follows, for whoever skips it
                let size = self.long()?;
                let left = (self.body.len() - self.at) as i64;
                count = match count.checked_neg() {
                    Some(count) if (0..=left).contains(&size) => count,
                    _ => {
                        return self.wrong(
                            self.at - start,
                            format!("a block of {count} items in {size} bytes"),
                        );
                    }
                };
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    /// What is wrong began so many bytes ago.
    fn wrong<T>(&mut self, length: usize, what: String) -> Read<T> {
        self.at -= length;
        Err(Wrong::new(what))
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let left = self.body.len() - self.at;
        if length > left {
            return Err(Wrong::new(format!(
                "{length} bytes should follow, {left} are left"
            )));
        }
        let taken = &self.body[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn long(&mut self) -> Read<i64> {
        let mut value = 0u64;
        for (place, byte) in self.body[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                // of the tenth byte one bit is left
                if place == 9 && *byte > 1 {
                    break;
                }
                self.at += place + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Wrong::new(if self.body.len() - self.at < 10 {
            "it ends in the middle of a number"
        } else {
            "a number of more than 64 bits"
        }))
    }

    fn int(&mut self) -> Read<i32> {
        let start = self.at;
        let value = self.long()?;
        match i32::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => self.wrong(
                self.at - start,
                format!("an int is of 32 bits, this is {value}"),
            ),
        }
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let start = self.at;
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => self.wrong(self.at - start, format!("a length of {length}")),
        }
    }

    fn text(&mut self) -> Read<&'a str> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong(bytes.len(), "a string that is not UTF-8".to_owned()),
        }
    }

    fn stored(&mut self, storage: Storage) -> Read<&'a [u8]> {
        match storage {
            Storage::Bytes => self.bytes(),
            Storage::Fixed(size) => self.take(size),
        }
    }
}

/// What is no number in JSON.
fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some(b"\"NaN\"")
    } else if value > 0.0 {
        Some(b"\"Infinity\"")
    } else {
        Some(b"\"-Infinity\"")
    }
}
