//! An event as CEL values: JSON that keeps the order of its keys and counts the steps taken through it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator as CelIterator, Sizer};
use cel::common::types::{
    self, CelBool, CelBytes, CelDouble, CelInt, CelNull, CelString, CelUInt, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ExprError;
use super::check::{Needs, Paths};
use crate::Event;

/// Loop steps left in one evaluation.
#[derive(Debug)]
pub(super) struct Fuel(AtomicU64);

impl Fuel {
    pub(super) fn new(steps: u64) -> Self {
        Self(AtomicU64::new(steps))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// False when there is none left.
    fn take(&self, steps: u64) -> bool {
        // One evaluation is one thread; the atomic is there because values must be `Sync`.
        let left = self.0.load(Ordering::Relaxed).saturating_sub(steps);
        self.0.store(left, Ordering::Relaxed);
        left > 0
    }
}

/// The variables of one evaluation: those that the expression names.
pub(super) struct Variables<'a> {
    edge: &'a str,
    content_type: &'a str,
    key: Option<&'a [u8]>,
    headers: Option<Box<dyn Val>>,
    data: Option<Box<dyn Val>>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(
        event: &'a Event,
        edge: &'a str,
        needs: &Needs,
        fuel: &Arc<Fuel>,
    ) -> Result<Self, ExprError> {
        let headers = needs.headers.then(|| headers(event, fuel));
        let data = match &needs.data {
            Some(paths) => Some(data(event, paths, fuel)?),
            None => None,
        };
        Ok(Self {
            edge,
            content_type: &event.content_type,
            key: event.key.as_deref(),
            headers,
            data,
        })
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match name {
            "event.data" => self.data.as_deref().map(CowVal::Borrowed),
            "event.headers" => self.headers.as_deref().map(CowVal::Borrowed),
            "event.edge" => Some(CowVal::owned(CelString::from(self.edge))),
            "event.content_type" => Some(CowVal::owned(CelString::from(self.content_type))),
            "event.key" => Some(match self.key {
                None => CowVal::owned(CelNull),
                Some(key) => match std::str::from_utf8(key) {
                    Ok(text) => CowVal::owned(CelString::from(text)),
                    Err(_) => CowVal::owned(CelBytes::from(key)),
                },
            }),
            _ => None,
        }
    }
}

fn headers(event: &Event, fuel: &Arc<Fuel>) -> Box<dyn Val> {
    let map = event
        .headers
        .iter()
        .map(|(name, value)| (CelString::from(name.clone()), text_or_bytes(value)))
        .collect();
    Json::boxed(Node::Map(map), fuel)
}

fn data(event: &Event, paths: &Paths, fuel: &Arc<Fuel>) -> Result<Box<dyn Val>, ExprError> {
    if !is_json(&event.content_type) {
        return Ok(text_or_bytes(&event.data));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(&event.data);
    let value = Seed { paths, fuel }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| ExprError::Failed(format!("the event's data is not JSON: {error}")))
}

fn text_or_bytes(bytes: &[u8]) -> Box<dyn Val> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Box::new(CelString::from(text.to_owned())),
        Err(_) => Box::new(CelBytes::from(bytes.to_vec())),
    }
}

/// `application/json`, `text/json` or anything that ends in `+json`; parameters do not matter.
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// A JSON array or object. Cheap to clone, which loops do for each element.
#[derive(Clone)]
struct Json {
    node: Arc<Node>,
    fuel: Arc<Fuel>,
}

enum Node {
    List(Vec<Box<dyn Val>>),
    Map(BTreeMap<CelString<'static>, Box<dyn Val>>),
}

impl Json {
    fn boxed(node: Node, fuel: &Arc<Fuel>) -> Box<dyn Val> {
        Box::new(Self {
            node: Arc::new(node),
            fuel: Arc::clone(fuel),
        })
    }

    fn find(&self, index: &dyn Val) -> Result<&(dyn Val + 'static), ExecutionError> {
        let mismatch = || ExecutionError::UnexpectedType {
            got: index.get_type().name().to_owned(),
            want: "an index".to_owned(),
        };
        match &*self.node {
            Node::Map(map) => {
                let name = index.downcast_ref::<CelString<'_>>().ok_or_else(mismatch)?;
                entry(map, name).ok_or_else(|| ExecutionError::no_such_key(name.inner()))
            }
            Node::List(list) => {
                let at = match (
                    index.downcast_ref::<CelInt>(),
                    index.downcast_ref::<CelUInt>(),
                ) {
                    (Some(at), _) => usize::try_from(*at.inner()).ok(),
                    (_, Some(at)) => usize::try_from(*at.inner()).ok(),
                    _ => return Err(mismatch()),
                };
                let found = at.and_then(|at| list.get(at));
                found
                    .map(|value| &**value)
                    .ok_or(ExecutionError::IndexOutOfBounds(cel::Value::Null))
            }
        }
    }
}

fn entry<'b>(
    map: &'b BTreeMap<CelString<'static>, Box<dyn Val>>,
    name: &CelString<'_>,
) -> Option<&'b (dyn Val + 'static)> {
    let name = CelString::from(name.inner().to_owned());
    map.get(&name).map(|value| &**value)
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json")
    }
}

impl StaticVal for Json {}

impl Val for Json {
    fn get_type(&self) -> &Type {
        match &*self.node {
            Node::List(_) => &types::LIST_TYPE,
            Node::Map(_) => &types::MAP_TYPE,
        }
    }

    fn cel_type() -> &'static Type {
        &types::MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        if let Some(other) = other.downcast_ref::<Json>() {
            return match (&*self.node, &*other.node) {
                (Node::List(a), Node::List(b)) => {
                    a.len() == b.len()
                        && a.iter()
                            .zip(b)
                            .all(|(a, b)| self.fuel.take(1) && a.equals(&**b))
                }
                (Node::Map(a), Node::Map(b)) => {
                    a.len() == b.len()
                        && a.iter().zip(b).all(|((ka, a), (kb, b))| {
                            self.fuel.take(1) && ka == kb && a.equals(&**b)
                        })
                }
                _ => false,
            };
        }
        // A list or map written in the expression.
        match &*self.node {
            Node::List(list) => other
                .downcast_ref::<types::CelList<'_>>()
                .is_some_and(|other| {
                    list.len() == other.inner().len()
                        && list.iter().zip(other.inner()).all(|(a, b)| a.equals(&**b))
                }),
            Node::Map(map) => other
                .downcast_ref::<types::CelMap<'_>>()
                .is_some_and(|other| {
                    map.len() == other.inner().len()
                        && other.inner().iter().all(|(key, b)| match key {
                            types::CelMapKey::String(key) => {
                                entry(map, key).is_some_and(|a| a.equals(&**b))
                            }
                            _ => false,
                        })
                }),
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl Indexer for Json {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.find(index).map(CowVal::Borrowed)
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.find(index).map(|value| value.clone_as_boxed())
    }
}

impl Container for Json {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        match &*self.node {
            Node::List(list) => Ok(list
                .iter()
                .any(|element| self.fuel.take(1) && element.equals(value))),
            Node::Map(map) => Ok(value
                .downcast_ref::<CelString<'_>>()
                .is_some_and(|name| entry(map, name).is_some())),
        }
    }
}

impl Sizer for Json {
    fn size(&self) -> CelInt {
        let size = match &*self.node {
            Node::List(list) => list.len(),
            Node::Map(map) => map.len(),
        };
        CelInt::from(i64::try_from(size).unwrap_or(i64::MAX))
    }
}

impl Iterable for Json {
    fn iter<'b, 'v>(&'b self) -> Box<dyn CelIterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        match &*self.node {
            Node::List(list) => Box::new(Steps {
                values: list.iter().map(|value| &**value),
                fuel: &self.fuel,
            }),
            Node::Map(map) => Box::new(Steps {
                values: map.keys().map(|key| key as &(dyn Val + 'static)),
                fuel: &self.fuel,
            }),
        }
    }
}

/// Elements of a list or keys of an object, as long as there is fuel.
struct Steps<'b, I> {
    values: I,
    fuel: &'b Fuel,
}

impl<'b, 'v, I: Iterator<Item = &'b (dyn Val + 'static)>> CelIterator<'b, 'v> for Steps<'b, I> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        let value = self.values.next()?;
        self.fuel.take(1).then_some(value)
    }
}

/// Reads JSON into values, but only along the paths that the expression names; the rest is skipped, yet must be JSON.
#[derive(Clone, Copy)]
struct Seed<'n> {
    paths: &'n Paths,
    fuel: &'n Arc<Fuel>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Box<dyn Val>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Box<dyn Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        // Which elements are needed is not followed: all of each is kept.
        while let Some(value) = seq.next_element_seed(Seed {
            paths: &Paths::All,
            ..self
        })? {
            list.push(value);
        }
        Ok(Json::boxed(Node::List(list), self.fuel))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(name) = access.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.paths.below(&name) {
                Some(paths) => {
                    let value = access.next_value_seed(Seed { paths, ..self })?;
                    map.insert(CelString::from(name.into_owned()), value);
                }
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Json::boxed(Node::Map(map), self.fuel))
    }
}
