//! Tests of the repository's own tasks.

mod github;
mod guests;
