//! The graph: what a user writes (YAML or JSON), its proof, its canonical form and its version.
//!
//! `parse` reads a file into a proven [`Graph`] or says all that is wrong with it ([`Problems`]). [`Graph::resolve`] turns
//! every `uses` into a digest, [`Graph::canonical`] writes the form whose sha256 ([`version`]) is the graph's version, and
//! [`Graph::from_canonical`] proves that form again.

mod canonical;
mod expr;
mod file;
mod inline;
mod model;
mod names;
mod parse;
mod problem;
mod proof;
mod shape;
mod tree;
mod units;
mod wiring;

pub use canonical::{CanonicalError, Resolve, version};
pub use expr::{Expr, ExprError, Scope};
pub use model::*;
pub use parse::parse;
pub use problem::{Problem, Problems};
pub use proof::is_identifier;

/// The JSON Schema (draft 2020-12) of the graph file, made from the types that read it.
pub fn json_schema() -> serde_json::Value {
    file::json_schema()
}
