//! Making what goes out.

use std::cell::Cell;

use serde::Serialize;

use crate::{Failure, Output};

/// What is kept from one call to the next.
const ROOM_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Output {
    /// The port of a step for which the graph names none.
    pub const OUT: &'static str = "out";

    /// Bytes with the key and the content type of the input.
    pub fn new(port: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            port: port.into(),
            key: None,
            content_type: None,
            headers: Vec::new(),
            data: data.into(),
        }
    }

    /// `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(
        port: impl Into<String>,
        value: &T,
    ) -> Result<Self, Failure> {
        // written where there is room already, and copied out once its size is known
        let mut room = ROOM.take();
        room.clear();
        let written = crate::json::write(&mut room, value);
        let data = room.as_slice().to_vec();
        if room.capacity() <= ROOM_BYTES_MAX {
            ROOM.set(room);
        }
        written
            .map_err(|e| Failure::Fatal(format!("the output cannot be written as JSON: {e}")))?;
        Ok(Self::new(port, data).with_content_type("application/json"))
    }

    /// Another key than the input's.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Another content type than the input's.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// One more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}
