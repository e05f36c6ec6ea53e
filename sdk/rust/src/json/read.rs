//! Reading. What is usual (objects, lists, text without escapes, whole numbers) is read here; what is rare is given to
//! `serde_json` piece by piece, and a text that this reader does not take is read by `serde_json` from the start: it says
//! what is wrong, or knows better. So this reader may pass on anything, but never take what `serde_json` would not.

use std::fmt;

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{PRIVATE, clean};

/// As deep as `serde_json` goes.
const DEPTH: u8 = 128;

/// The value that the text is.
pub(crate) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: DEPTH,
    };
    match T::deserialize(&mut reader) {
        Ok(value) if reader.ended() => Ok(value),
        _ => serde_json::from_str(text),
    }
}

/// Not for this reader. Nobody sees it.
#[derive(Debug)]
struct Odd;

impl fmt::Display for Odd {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Odd {}

impl de::Error for Odd {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }

    // Without these, messages are put together that nobody sees.
    fn invalid_type(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self
    }

    fn invalid_value(_: de::Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self
    }

    fn invalid_length(_: usize, _: &dyn de::Expected) -> Self {
        Self
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self
    }

    fn missing_field(_: &'static str) -> Self {
        Self
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self
    }
}

struct Reader<'de> {
    text: &'de str,
    at: usize,
    /// How many levels deeper it may go.
    depth: u8,
}

impl<'de> Reader<'de> {
    #[inline(always)]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    #[inline(always)]
    fn next(&mut self) -> Result<u8, Odd> {
        match self.byte() {
            Some(byte) if byte > b' ' => Ok(byte),
            _ => self.after_space(),
        }
    }

    fn after_space(&mut self) -> Result<u8, Odd> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(Odd),
            }
        }
    }

    fn ended(&mut self) -> bool {
        self.next().is_err()
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) -> Result<(), Odd> {
        if self.next()? != byte {
            return Err(Odd);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Odd> {
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        if there { Ok(()) } else { Err(Odd) }
    }

    /// What stands between `start` and here.
    fn piece(&self, start: usize) -> Result<&'de str, Odd> {
        self.text.get(start..self.at).ok_or(Odd)
    }

    /// A string without escapes; `None` where it has some, and then it has been passed. Begins at its quote.
    #[inline(always)]
    #[expect(unsafe_code, reason = "both ends were just looked at")]
    fn plain(&mut self) -> Result<Option<&'de str>, Odd> {
        let start = self.at + 1;
        let rest = self.text.as_bytes().get(start..).ok_or(Odd)?;
        let length = clean(rest);
        self.at = start + length;
        match rest.get(length) {
            Some(b'"') => {
                self.at += 1;
                // SAFETY: a piece of a text between two of its quotes, which are no parts of other characters.
                Ok(Some(unsafe {
                    std::str::from_utf8_unchecked(&rest[..length])
                }))
            }
            Some(b'\\') => self.escaped().map(|()| None),
            _ => Err(Odd),
        }
    }

    /// Passes the rest of a string from its first backslash on.
    #[cold]
    fn escaped(&mut self) -> Result<(), Odd> {
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                _ => return Err(Odd),
            }
            self.at += clean(self.text.as_bytes().get(self.at..).ok_or(Odd)?);
        }
    }

    #[inline(always)]
    fn string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        let start = self.at;
        match self.plain()? {
            Some(text) => visitor.visit_borrowed_str(text),
            None => theirs(self.piece(start)?, |reader| reader.deserialize_any(visitor)),
        }
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        /// So many digits fit in any case.
        const DIGITS: usize = 18;
        let start = self.at;
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(negative);
        let (first, mut number) = (self.at, 0);
        while self.at < first + DIGITS
            && let Some(digit @ b'0'..=b'9') = self.byte()
        {
            number = number * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        let whole = !matches!(self.byte(), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        let plain = match self.at - first {
            0 => false,
            1 => !negative || number > 0,
            _ => self.text.as_bytes()[first] != b'0',
        };
        if whole && plain {
            return match negative {
                true => visitor.visit_i64(-number),
                false => visitor.visit_u64(number.unsigned_abs()),
            };
        }
        while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.byte() {
            self.at += 1;
        }
        theirs(self.piece(start)?, |reader| reader.deserialize_any(visitor))
    }

    /// Passes a value, looking at it as closely as when it is read.
    fn pass(&mut self) -> Result<&'de str, Odd> {
        self.next()?;
        let start = self.at;
        de::IgnoredAny::deserialize(&mut *self)?;
        self.piece(start)
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Odd>) -> Result<T, Odd> {
        self.depth = self.depth.checked_sub(1).filter(|d| *d > 0).ok_or(Odd)?;
        let read = inside(self)?;
        self.depth += 1;
        Ok(read)
    }

    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        self.at += 1;
        let value = self.deeper(|reader| {
            visitor.visit_seq(Among {
                reader,
                first: true,
            })
        })?;
        self.take(b']')?;
        Ok(value)
    }

    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        self.at += 1;
        let value = self.deeper(|reader| {
            visitor.visit_map(Among {
                reader,
                first: true,
            })
        })?;
        self.take(b'}')?;
        Ok(value)
    }
}

/// `serde_json`, for a piece that is one value and nothing else.
#[cold]
fn theirs<'de, T>(
    piece: &'de str,
    read: impl FnOnce(
        &mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    ) -> serde_json::Result<T>,
) -> Result<T, Odd> {
    let mut reader = serde_json::Deserializer::from_str(piece);
    let value = read(&mut reader).map_err(|_| Odd)?;
    reader.end().map_err(|_| Odd)?;
    Ok(value)
}

macro_rules! as_any {
    ($($method:ident),*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            self.deserialize_any(visitor)
        }
    )*};
}

/// Only of this kind: anything else may be right, and is then `serde_json`'s to read.
macro_rules! only {
    ($($method:ident $read:ident $($byte:pat_param)|+),*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            match self.next()? {
                $($byte)|+ => self.$read(visitor),
                _ => Err(Odd),
            }
        }
    )*};
}

macro_rules! by_serde_json {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            theirs(self.pass()?, |reader| reader.$method(visitor))
        }
    )*};
}

macro_rules! odd {
    ($($method:ident($($about:ty),*)),*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $about,)* _: V) -> Result<V::Value, Odd> {
            Err(Odd)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Odd;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        match self.next()? {
            b'"' => self.string(visitor),
            b'{' => self.object(visitor),
            b'[' => self.list(visitor),
            b'0'..=b'9' | b'-' => self.number(visitor),
            b't' => {
                self.word("true")?;
                visitor.visit_bool(true)
            }
            b'f' => {
                self.word("false")?;
                visitor.visit_bool(false)
            }
            b'n' => {
                self.word("null")?;
                visitor.visit_unit()
            }
            _ => Err(Odd),
        }
    }

    only!(
        deserialize_str string b'"', deserialize_string string b'"', deserialize_identifier string b'"',
        deserialize_char string b'"',
        deserialize_i8 number b'0'..=b'9' | b'-', deserialize_i16 number b'0'..=b'9' | b'-',
        deserialize_i32 number b'0'..=b'9' | b'-', deserialize_i64 number b'0'..=b'9' | b'-',
        deserialize_u8 number b'0'..=b'9' | b'-', deserialize_u16 number b'0'..=b'9' | b'-',
        deserialize_u32 number b'0'..=b'9' | b'-', deserialize_u64 number b'0'..=b'9' | b'-',
        deserialize_f64 number b'0'..=b'9' | b'-', deserialize_bool deserialize_any b't' | b'f',
        deserialize_unit deserialize_any b'n', deserialize_seq list b'[', deserialize_map object b'{'
    );

    as_any!(deserialize_ignored_any);

    // `f32`: with its feature `float_roundtrip`, `serde_json` reads it otherwise than `f64`
    by_serde_json!(
        deserialize_i128,
        deserialize_u128,
        deserialize_f32,
        deserialize_bytes,
        deserialize_byte_buf
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        if self.next()? == b'n' {
            self.word("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        if name.starts_with(PRIVATE) {
            return theirs(self.pass()?, |reader| {
                reader.deserialize_newtype_struct(name, visitor)
            });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Odd> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        match self.next()? {
            b'"' => {
                let name = self.plain()?.ok_or(Odd)?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            b'{' => {
                self.at += 1;
                let value = self.deeper(|reader| visitor.visit_enum(Variant { reader }))?;
                self.take(b'}')?;
                Ok(value)
            }
            _ => Err(Odd),
        }
    }
}

/// The items of a list, or the fields of an object.
struct Among<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
}

impl Among<'_, '_> {
    /// Whether another one stands before `end`; past its comma.
    #[inline(always)]
    fn more(&mut self, end: u8) -> Result<bool, Odd> {
        let byte = self.reader.next()?;
        if byte == end {
            return Ok(false);
        }
        if std::mem::take(&mut self.first) {
            return Ok(true);
        }
        if byte != b',' {
            return Err(Odd);
        }
        self.reader.at += 1;
        // no comma before the end
        if self.reader.next()? == end {
            return Err(Odd);
        }
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Among<'_, 'de> {
    type Error = Odd;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Odd> {
        if !self.more(b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Among<'_, 'de> {
    type Error = Odd;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Odd> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        seed.deserialize(Key(&mut *self.reader)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Odd> {
        self.reader.take(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

/// A field's name, where no white space is left before it. Keys that are no text (`{"1": …}` as a map of numbers) are `serde_json`'s.
struct Key<'r, 'de>(&'r mut Reader<'de>);

impl<'de> Deserializer<'de> for Key<'_, 'de> {
    type Error = Odd;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        match self.0.byte() {
            Some(b'"') => self.0.string(visitor),
            _ => Err(Odd),
        }
    }

    as_any!(
        deserialize_str,
        deserialize_string,
        deserialize_identifier,
        deserialize_char,
        deserialize_ignored_any
    );

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Odd> {
        visitor.visit_newtype_struct(self)
    }

    odd!(
        deserialize_bool(),
        deserialize_i8(),
        deserialize_i16(),
        deserialize_i32(),
        deserialize_i64(),
        deserialize_i128(),
        deserialize_u8(),
        deserialize_u16(),
        deserialize_u32(),
        deserialize_u64(),
        deserialize_u128(),
        deserialize_f32(),
        deserialize_f64(),
        deserialize_bytes(),
        deserialize_byte_buf(),
        deserialize_option(),
        deserialize_unit(),
        deserialize_seq(),
        deserialize_map(),
        deserialize_unit_struct(&'static str),
        deserialize_tuple(usize),
        deserialize_tuple_struct(&'static str, usize),
        deserialize_struct(&'static str, &'static [&'static str]),
        deserialize_enum(&'static str, &'static [&'static str])
    );
}

/// `{"Variant": value}`, past its brace.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Odd;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Odd> {
        self.reader.next()?;
        let variant = seed.deserialize(Key(&mut *self.reader))?;
        self.reader.take(b':')?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Odd;

    fn unit_variant(self) -> Result<(), Odd> {
        Deserialize::deserialize(self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Odd> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Odd> {
        self.reader.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        self.reader.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests;
