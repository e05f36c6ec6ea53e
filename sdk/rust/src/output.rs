//! Making what goes out.

use serde::Serialize;

use crate::{Failure, Output};

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
        let mut data = Vec::with_capacity(256);
        serde_json::to_writer(&mut data, value)
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
