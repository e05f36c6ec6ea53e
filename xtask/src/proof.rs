//! What a fault test counted, as a row of `make prove`.

use std::time::Duration;

use serde_json::json;

/// One row.
#[derive(Default)]
pub struct Row {
    pub id: &'static str,
    pub title: &'static str,
    /// Faults done.
    pub injected: usize,
    pub expected: String,
    /// Of the true build; what a broken variant lost stands in `expected`.
    pub lost: usize,
    pub duplicated: usize,
    pub passed: bool,
    pub took: Duration,
    /// Of its random choices, where it makes any.
    pub seed: Option<u64>,
}

/// Whether this is `make prove`: full size, and times count.
pub fn full() -> bool {
    std::env::var_os("WEIR_PROOFS").is_some()
}

impl Row {
    /// Kept only where `make prove` asks for it.
    pub fn keep(&self) -> std::io::Result<()> {
        let Some(folder) = std::env::var_os("WEIR_PROOFS") else {
            return Ok(());
        };
        let row = json!({
            "id": self.id, "title": self.title, "injected": self.injected, "expected": self.expected, "lost": self.lost,
            "duplicated": self.duplicated, "passed": self.passed, "seconds": self.took.as_secs(), "seed": self.seed,
        });
        let path = std::path::Path::new(&folder).join(format!("{}.json", self.id));
        std::fs::write(path, row.to_string())
    }
}
