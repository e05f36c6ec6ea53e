use crate::Event;
use bytes::Bytes;

#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// Not an expression; `offset` in bytes of its text.
    #[error("{message}")]
    Syntax { message: String, offset: usize },
    /// It failed on this event.
    #[error("{0}")]
    Failed(String),
    /// It gave a value of the wrong type.
    #[error("expected {expected}, got {got}")]
    Type { expected: &'static str, got: String },
    /// It did more work than one evaluation may.
    #[error("expression needs more than {0} steps on this event")]
    TooMuch(u64),
}

/// What an expression sees.
pub struct Scope<'a> {
    event: &'a Event,
    edge: &'a str,
}
impl<'a> Scope<'a> {
    pub fn new(event: &'a Event, edge: &'a str) -> Self {
        Self { event, edge }
    }
}
impl Expr {
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Ok(Self { text: text.into() })
    }
    pub fn text(&self) -> &str {
        &self.text
    }
    pub fn eval_bool(&self, _scope: &Scope<'_>) -> Result<bool, ExprError> {
        Ok(true)
    }
    pub fn eval_key(&self, _scope: &Scope<'_>) -> Result<Option<Bytes>, ExprError> {
        Ok(None)
    }
}
