//! The graph file, its canonical form and the inspection of modules, from outside.

mod canonical;
mod files;
mod module;
mod mutations;
mod problems;
mod schema;
