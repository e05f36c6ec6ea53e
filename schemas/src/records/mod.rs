//! The records on Weir's topics and their bytes: Avro bodies in the Confluent wire format.
//!
//! Invariant: old versions of a record decode for ever; `golden/` holds the bytes of each.

mod avro;
mod dead_letter;
mod detour;
pub mod headers;
mod hop;
mod result;
mod trigger;
pub mod wire;

#[cfg(test)]
mod tests;

pub use dead_letter::DeadLetter;
pub use detour::{Attempt, Detour};
pub use hop::{EdgeEvent, Hop, SCHEMA as HOP_SCHEMA};
pub use result::{Failure, FailureKind, LogLine, Output, SCHEMA as RESULT_SCHEMA, SegmentResult};
pub use trigger::{INLINE_BYTES_MAX, Payload, SCHEMA as TRIGGER_SCHEMA, Trigger};
pub use wire::RecordError;
