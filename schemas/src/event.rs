//! An event: what flows along an edge of a graph.

use bytes::Bytes;

/// One event. Cheap to clone: bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Event {
    /// The event's key; decides its partition and its order. `None`: the execution id stands in for it.
    pub key: Option<Bytes>,
    /// MIME type of `data`, such as `application/json`.
    pub content_type: String,
    /// In the order they were given; names may repeat.
    pub headers: Vec<(String, Bytes)>,
    pub data: Bytes,
}
