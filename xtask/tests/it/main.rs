//! Tests of the repository's own tasks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod github;
mod guests;
mod services;
