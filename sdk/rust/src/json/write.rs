//! Writing, byte for byte as `serde_json` does. What is rare (floats, keys that are no text, numbers and raw values of
//! `serde_json`'s own) is left to `serde_json`.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Error;

use super::{PRIVATE, clean, dirty, first, is_dirty};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `value` as JSON. After an error `out` holds a part of it.
pub(crate) fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(&mut Writer { out })
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn theirs<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.out, value)
    }

    fn text(&mut self, text: &str) {
        self.quoted(b"\"", text, b"\"");
    }

    /// `before` and `after` hold the quotes, and what stands beside them.
    #[expect(unsafe_code, reason = "one look at the room for all that is written")]
    fn quoted<const B: usize, const A: usize>(
        &mut self,
        before: &[u8; B],
        text: &str,
        after: &[u8; A],
    ) {
        let text = text.as_bytes();
        let start = self.out.len();
        self.out.reserve(B + text.len() + A);
        // SAFETY: there is room for `before`, the whole text and `after` behind `start`; `copy_clean` writes up to
        // `text.len()` bytes and says how many of them are meant; everything up to the new length is written.
        let copied = unsafe {
            let to = self.out.as_mut_ptr().add(start);
            to.cast::<[u8; B]>().write(*before);
            let copied = copy_clean(text, to.add(B));
            if copied == text.len() {
                to.add(B + copied).cast::<[u8; A]>().write(*after);
                self.out.set_len(start + B + copied + A);
                return;
            }
            self.out.set_len(start + B + copied);
            copied
        };
        self.escaped(&text[copied..]);
        self.put(after);
    }

    /// Text that begins with a byte that needs an escape.
    #[cold]
    fn escaped(&mut self, mut rest: &[u8]) {
        while let Some((byte, after)) = rest.split_first() {
            self.escape(*byte);
            let clean = clean(after);
            self.put(&after[..clean]);
            rest = &after[clean..];
        }
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let digit = |half: u8| HEX[usize::from(half)];
                return self.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        };
        self.put(&[b'\\', short]);
    }

    fn field(&mut self, first: &mut bool, name: &str) {
        if std::mem::take(first) {
            self.quoted(b"\"", name, b"\":");
        } else {
            self.quoted(b",\"", name, b"\":");
        }
    }

    fn variant(&mut self, name: &str) {
        self.quoted(b"{\"", name, b"\":");
    }
}

/// Copies bytes up to the first that needs an escape; how many.
///
/// # Safety
/// All of `from` fits at `to`. What lies behind the bytes that were copied, up to the length of `from`, may be written, too.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "words, not bytes, into room that is not set yet"
)]
unsafe fn copy_clean(from: &[u8], to: *mut u8) -> usize {
    // SAFETY (all writes): `at` plus the size of what is written is at most `from.len()`.
    let put = |at: usize, word: [u8; 8]| unsafe { to.add(at).cast::<[u8; 8]>().write(word) };
    let put_half = |at: usize, half: [u8; 4]| unsafe { to.add(at).cast::<[u8; 4]>().write(half) };
    let (words, rest) = from.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        put(n * 8, *word);
        let found = dirty(u64::from_le_bytes(*word));
        if found != 0 {
            return n * 8 + first(found);
        }
    }
    if rest.is_empty() {
        return from.len();
    }
    // the last eight bytes or twice four, some of them for the second time
    if let Some(last) = from.last_chunk::<8>() {
        let at = from.len() - 8;
        put(at, *last);
        let found = dirty(u64::from_le_bytes(*last));
        return if found == 0 {
            from.len()
        } else {
            at + first(found)
        };
    }
    if let (Some(low), Some(high)) = (from.first_chunk::<4>(), from.last_chunk::<4>()) {
        let at = from.len() - 4;
        put_half(0, *low);
        put_half(at, *high);
        let word = u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
        let found = dirty(word);
        return match first(found) {
            _ if found == 0 => from.len(),
            place @ 0..4 => place,
            place => at + place - 4,
        };
    }
    for (at, byte) in from.iter().enumerate() {
        if is_dirty(*byte) {
            return at;
        }
        // SAFETY: `at` is below the length.
        unsafe { to.add(at).write(*byte) };
    }
    from.len()
}

macro_rules! numbers {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            self.put(itoa::Buffer::new().format(value).as_bytes());
            Ok(())
        }
    )*};
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'w, 'o>;
    type SerializeTuple = Items<'w, 'o>;
    type SerializeTupleStruct = Items<'w, 'o>;
    type SerializeTupleVariant = Items<'w, 'o>;
    type SerializeMap = Fields<'w, 'o>;
    type SerializeStruct = Fields<'w, 'o>;
    type SerializeStructVariant = Fields<'w, 'o>;

    numbers!(
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128
    );

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.put(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.theirs(&value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.theirs(&value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.put(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant);
        value.serialize(&mut *self)?;
        self.put(b"}");
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'w, 'o>, Error> {
        Ok(Items::of(self, b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'w, 'o>, Error> {
        Ok(Items::of(self, b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'w, 'o>, Error> {
        Ok(Items::of(self, b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'w, 'o>, Error> {
        self.variant(variant);
        Ok(Items::of(self, b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'w, 'o>, Error> {
        Ok(Fields::of(self, b"}"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'w, 'o>, Error> {
        if name.starts_with(PRIVATE) {
            return Ok(Fields {
                writer: self,
                first: true,
                end: b"",
                private: Some(name),
            });
        }
        Ok(Fields::of(self, b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'w, 'o>, Error> {
        self.variant(variant);
        Ok(Fields::of(self, b"}}"))
    }
}

struct Items<'w, 'o> {
    writer: &'w mut Writer<'o>,
    first: bool,
    end: &'static [u8],
}

impl<'w, 'o> Items<'w, 'o> {
    fn of(writer: &'w mut Writer<'o>, end: &'static [u8]) -> Self {
        writer.put(b"[");
        Self {
            writer,
            first: true,
            end,
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !std::mem::take(&mut self.first) {
            self.writer.put(b",");
        }
        value.serialize(&mut *self.writer)
    }

    fn close(self) -> Result<(), Error> {
        self.writer.put(self.end);
        Ok(())
    }
}

macro_rules! items {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait for Items<'_, '_> {
            type Ok = ();
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

items!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

struct Fields<'w, 'o> {
    writer: &'w mut Writer<'o>,
    first: bool,
    end: &'static [u8],
    /// One of `serde_json`'s own.
    private: Option<&'static str>,
}

impl<'w, 'o> Fields<'w, 'o> {
    fn of(writer: &'w mut Writer<'o>, end: &'static [u8]) -> Self {
        writer.put(b"{");
        Self {
            writer,
            first: true,
            end,
            private: None,
        }
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if let Some(private) = self.private {
            return self.writer.theirs(&Private {
                name: private,
                field: name,
                value,
            });
        }
        self.writer.field(&mut self.first, name);
        value.serialize(&mut *self.writer)
    }

    fn close(self) -> Result<(), Error> {
        self.writer.put(self.end);
        Ok(())
    }
}

impl SerializeMap for Fields<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        if !std::mem::take(&mut self.first) {
            self.writer.put(b",");
        }
        let start = self.writer.out.len();
        let written = key.serialize(&mut *self.writer);
        if written.is_err() || self.writer.out.get(start) != Some(&b'"') {
            // no text: `{"key":null}`, without what stands around the key
            let mut one = serde_json::to_vec(&OneKey(key))?;
            one.truncate(one.len() - b":null}".len());
            self.writer.out.truncate(start);
            self.writer.put(&one[1..]);
        }
        self.writer.put(b":");
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl $trait for Fields<'_, '_> {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.named(name, value)
            }
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

/// A struct by which `serde_json` knows its own.
struct Private<'v, T: ?Sized> {
    name: &'static str,
    field: &'static str,
    value: &'v T,
}

impl<T: Serialize + ?Sized> Serialize for Private<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct(self.name, 1)?;
        fields.serialize_field(self.field, self.value)?;
        fields.end()
    }
}

struct OneKey<'k, T: ?Sized>(&'k T);

impl<T: Serialize + ?Sized> Serialize for OneKey<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::write;

    fn same<T: Serialize + ?Sized>(value: &T) {
        let (mut ours, theirs) = (Vec::new(), serde_json::to_vec(value));
        let wrote = write(&mut ours, value);
        match theirs {
            Ok(theirs) => {
                wrote.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                assert_eq!(text(&ours), text(&theirs));
            }
            Err(theirs) => assert_eq!(wrote.unwrap_err().to_string(), theirs.to_string()),
        }
    }

    #[derive(Serialize)]
    enum Kind {
        Unit,
        One(u8),
        Two(i64, Option<char>),
        Named { a: f64, b: &'static str },
    }

    #[derive(Serialize)]
    struct Wrapped(&'static str);

    #[derive(Serialize)]
    struct Nothing;

    #[derive(Serialize)]
    struct All<'a> {
        text: &'a str,
        numbers: (u8, i8, u16, i16, u32, i32, u64, i64, u128, i128),
        floats: [f64; 6],
        single: f32,
        kinds: Vec<Kind>,
        none: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<u8>,
        unit: ((), Nothing, Wrapped),
        empty: (Vec<u8>, BTreeMap<u8, u8>),
    }

    #[test]
    fn every_shape_as_serde_json_writes_it() {
        same(&All {
            text: "a \"quoted\" \\ text\n",
            numbers: (
                u8::MAX,
                i8::MIN,
                u16::MAX,
                i16::MIN,
                u32::MAX,
                i32::MIN,
                u64::MAX,
                i64::MIN,
                u128::MAX,
                i128::MIN,
            ),
            floats: [0.0, -0.0, 1.5, 1e300, f64::NAN, f64::INFINITY],
            single: 0.1,
            kinds: vec![
                Kind::Unit,
                Kind::One(1),
                Kind::Two(-2, Some('é')),
                Kind::Named {
                    a: 2.0,
                    b: "\u{7f}\u{1}",
                },
            ],
            none: None,
            skipped: None,
            unit: ((), Nothing, Wrapped("\u{2028}")),
            empty: (Vec::new(), BTreeMap::new()),
        });
        same(&serde_json::json!({"a": [1, -2, 3.5, null, true, {"b\n": "c"}], "": {}}));
    }

    #[test]
    fn keys_of_any_kind() {
        same(&BTreeMap::from([("a\"", 1), ("b", 2)]));
        same(&BTreeMap::from([(1, "x"), (-7, "y")]));
        same(&BTreeMap::from([(true, 1), (false, 2)]));
        same(&BTreeMap::from([('c', 1), ('"', 2)]));
        same(&BTreeMap::from([(Some("some"), 1)]));
        same(&BTreeMap::from([((1, 2), "no key")]));
        same(&BTreeMap::from([(vec![1], "no key")]));
    }

    #[test]
    fn every_byte_at_every_place() {
        for code in (0..0x180).chain([0x2028, 0xffff, 0x1_f600]) {
            let Some(char) = char::from_u32(code) else {
                continue;
            };
            for before in 0..18 {
                let text = format!("{}{char}{}", "x".repeat(before), "y".repeat(18 - before));
                same(&text);
                same(&format!("{text}{char}\"{char}"));
            }
        }
        same("");
    }
}
