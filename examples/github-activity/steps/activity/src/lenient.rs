//! Fields that are read where they are what one hopes for and are empty where they are not. Whoever sends webhooks
//! adds and changes fields; that must not lose events.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A string, borrowed where it has no escapes; nothing where the value is empty or no string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text<'a>(Option<Cow<'a, str>>);

impl<'a> Text<'a> {
    pub fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// This text, or the other where this is empty.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_none() { other } else { self }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self((!text.is_empty()).then_some(Cow::Borrowed(text)))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self((!text.is_empty()).then_some(Cow::Owned(text)))
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

/// A number, or how many elements a list has; nothing where the value is neither.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count(pub Option<u64>);

impl Count {
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

/// An object's fields; all of them empty where the value is no object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

/// What a field makes of each kind of value; by default nothing.
trait Field<'de>: Default {
    fn borrowed(_: &'de str) -> Self {
        Self::default()
    }

    fn text(_: &str) -> Self {
        Self::default()
    }

    fn number(_: u64) -> Self {
        Self::default()
    }

    fn elements(_: u64) -> Self {
        Self::default()
    }

    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de: 'a, 'a> Field<'de> for Text<'a> {
    fn borrowed(text: &'de str) -> Self {
        text.into()
    }

    fn text(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<'de> Field<'de> for Count {
    fn number(number: u64) -> Self {
        Self(Some(number))
    }

    fn elements(elements: u64) -> Self {
        Self(Some(elements))
    }
}

impl<'de, T: Deserialize<'de> + Default> Field<'de> for Object<T> {
    fn object<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Self)
    }
}

struct Lenient<F>(PhantomData<F>);

impl<'de, F: Field<'de>> Visitor<'de> for Lenient<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<F, E> {
        Ok(F::borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<F, E> {
        Ok(F::text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<F, E> {
        Ok(F::number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<F, E> {
        Ok(F::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<F, E> {
        Ok(F::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<F, E> {
        Ok(F::default())
    }

    fn visit_unit<E>(self) -> Result<F, E> {
        Ok(F::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<F, A::Error> {
        let mut count = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(F::elements(count))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<F, A::Error> {
        F::object(map)
    }
}
