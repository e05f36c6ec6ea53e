//! What a record is: the Avro records that travel on Weir's topics, the graph definition and its proof, execution ids,
//! the inspection of a step module, and Avro data of users' topics. No I/O, no clock, no randomness.

pub mod activation;
pub mod avro;
pub mod calendar;
pub mod event;
pub mod graph;
pub mod id;
pub mod module;
pub mod records;

pub use event::Event;
pub use id::ExecutionId;
