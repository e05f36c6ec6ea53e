//! The graph file, its canonical form and the inspection of modules, from outside.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod canonical;
mod files;
mod fuzz;
mod module;
mod mutations;
mod problems;
mod schema;
