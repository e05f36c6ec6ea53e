//! Expressions of a graph (`when`, `key`, `hop`): CEL over one event, compiled once and evaluated per event.
//!
//! An expression sees `event.data` (parsed where the content type is JSON, and then only the paths that the expression
//! names), `event.key`, `event.headers` (last wins), `event.content_type` and `event.edge`. Bytes that are UTF-8 are
//! strings, others are bytes; a missing key is null. JSON whole numbers are `int` (`uint` above 2^63), others `double`.
//!
//! Invariants: the same event gives the same outcome on every run and machine (objects iterate in the order of their keys;
//! errors name types and fields, never values); work is bounded by the size of the expression times the size of the event,
//! see [`check`], and in loops by fuel, see [`value`]. There are no regular expressions, no clock and no time types.

mod check;
mod value;

use std::fmt;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelString, CelUInt, Kind};
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Value};

use crate::Event;
use value::{Fuel, Variables};

/// The longest expression, in bytes.
pub(super) const EXPRESSION_BYTES_MAX: usize = 4 << 10;

/// A compiled expression; keeps its text. Cheap to clone, shareable between threads.
#[derive(Clone)]
pub struct Expr(Arc<Compiled>);

struct Compiled {
    text: String,
    ast: IdedExpr,
    needs: check::Needs,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// It can never be evaluated; found when the graph is parsed. `offset` and `len` in bytes of the expression's text.
    #[error("{message}")]
    Invalid {
        message: String,
        offset: usize,
        len: usize,
    },
    /// It failed on this event: the event is rejected.
    #[error("{0}")]
    Failed(String),
    /// It gave a value of another type than its place needs: the event is rejected.
    #[error("the expression must give {expected}, not {got}")]
    Type { expected: &'static str, got: String },
    /// It asked for more loop steps than one evaluation may do: the event is rejected.
    #[error("the expression loops over more than {steps} elements of this event")]
    TooMuch { steps: u64 },
}

/// What an expression sees: one event, and the edge it came over (`trigger` or `step.port`).
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    event: &'a Event,
    edge: &'a str,
}

impl<'a> Scope<'a> {
    pub fn new(event: &'a Event, edge: &'a str) -> Self {
        Self { event, edge }
    }
}

/// The standard functions and macros, without optional values: one constant for all expressions.
static ENV: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

impl Expr {
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let (ast, needs) = check::compile(&ENV, text)?;
        Ok(Self(Arc::new(Compiled {
            text: text.to_owned(),
            ast,
            needs,
        })))
    }

    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// For `when`: true or false, nothing else.
    pub fn eval_bool(&self, scope: &Scope<'_>) -> Result<bool, ExprError> {
        self.eval(scope, |value| match value.downcast_ref::<CelBool>() {
            Some(value) => Ok(*value.inner()),
            None => Err(ExprError::Type {
                expected: "true or false",
                got: value.get_type().name().to_owned(),
            }),
        })
    }

    /// For `key` and `hop`: text and bytes as they are, numbers in decimal, `true` or `false`; null is no key.
    pub fn eval_key(&self, scope: &Scope<'_>) -> Result<Option<Bytes>, ExprError> {
        self.eval(scope, |value| {
            if let Some(text) = value.downcast_ref::<CelString<'_>>() {
                return Ok(Some(Bytes::copy_from_slice(text.inner().as_bytes())));
            }
            if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
                return Ok(Some(Bytes::copy_from_slice(bytes.inner())));
            }
            let text = if let Some(number) = value.downcast_ref::<CelInt>() {
                number.inner().to_string()
            } else if let Some(number) = value.downcast_ref::<CelUInt>() {
                number.inner().to_string()
            } else if let Some(number) = value.downcast_ref::<CelDouble>() {
                number.inner().to_string()
            } else if let Some(truth) = value.downcast_ref::<CelBool>() {
                truth.inner().to_string()
            } else if value.get_type().kind() == Kind::NullType {
                return Ok(None);
            } else {
                let got = value.get_type().name().to_owned();
                return Err(ExprError::Type {
                    expected: "a string, bytes, a number, true, false or null",
                    got,
                });
            };
            Ok(Some(Bytes::from(text)))
        })
    }

    fn eval<T>(
        &self,
        scope: &Scope<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, ExprError>,
    ) -> Result<T, ExprError> {
        let needs = &self.0.needs;
        let fuel = Arc::new(Fuel::new(needs.steps));
        let variables = Variables::of(scope.event, scope.edge, needs, &fuel)?;
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(&variables);
        let outcome = Value::resolve_val(&self.0.ast, &context);
        if fuel.is_empty() {
            return Err(ExprError::TooMuch { steps: needs.steps });
        }
        match outcome {
            Ok(value) => read(&*value),
            Err(error) => Err(ExprError::Failed(explain(&error))),
        }
    }
}

/// What went wrong, without the values: they may be secret or large, and maps print in no fixed order.
fn explain(error: &ExecutionError) -> String {
    use ExecutionError as E;
    match error {
        E::NoSuchKey(key) => format!("there is no field {:?}", shortened(key)),
        E::NoSuchOverload(overload) => overload.to_string(),
        E::UndeclaredReference(name) => format!("unknown name {:?}", shortened(name)),
        E::UnexpectedType { got, want } => format!("expected {want}, got {got}"),
        E::DivisionByZero(_) => "division by zero".to_owned(),
        E::RemainderByZero(_) => "remainder of a division by zero".to_owned(),
        E::Overflow(operator, ..) => format!("the result of \"{operator}\" is out of range"),
        E::IndexOutOfBounds(_) => "the index is out of bounds".to_owned(),
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!(
                "\"{operator}\" does not take {} and {}",
                left.type_of(),
                right.type_of()
            )
        }
        E::UnsupportedIndex(..) => "the index is not of a type that fits".to_owned(),
        E::ValuesNotComparable(left, right) => {
            format!("cannot compare {} with {}", left.type_of(), right.type_of())
        }
        E::UnsupportedKeyType(key) => format!("{} cannot be a key", key.type_of()),
        E::InvalidArgumentCount { expected, actual } => {
            format!("expected {expected} arguments, got {actual}")
        }
        E::FunctionError { function, .. } => format!("\"{function}\" failed on its argument"),
        _ => "the expression cannot be evaluated on this event".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.0.text)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expr {}

#[cfg(test)]
mod tests;
