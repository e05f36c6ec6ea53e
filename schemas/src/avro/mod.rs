//! Avro data of user topics ↔ JSON: the form in which steps, conditions and rows see them.
//!
//! A schema is compiled once into a plan (`plan`, `compile`, `default`); a datum goes through the plan straight from bytes
//! to text (`read`) or from text to bytes (`write`), without a tree of values between. apache-avro only parses schemas; it
//! is also the oracle of the tests. No schema resolution: a datum is read with the schema it was written with.
//!
//! The JSON is plain, not Avro's own JSON encoding: unions unwrapped; bytes and fixed in base64; enums as their symbols;
//! decimals as text such as `"12.34"`; dates, times and timestamps as ISO 8601 and RFC 3339 (`calendar`); durations as
//! `{"months", "days", "millis"}`; NaN and the infinities as text.
//!
//! Invariant: bytes and texts may come from anybody. They give an error at worst: depth, steps and what comes out are
//! bounded (`bounds`), and nothing is reserved because a datum says that it is large.

mod bounds;
mod calendar;
mod compile;
mod decimal;
mod default;
mod error;
mod json;
mod plan;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use compile::Avro;
pub use error::{AvroError, AvroSchemaError};
