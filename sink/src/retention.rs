//! How long Weir's own tables keep their rows. Pure.

use std::time::Duration;

/// Of each table; `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub executions: Option<Duration>,
    pub outputs: Option<Duration>,
    pub dead_letters: Option<Duration>,
}

impl Retention {
    /// The same for all tables.
    pub fn all(kept: Option<Duration>) -> Self {
        Self {
            executions: kept,
            outputs: kept,
            dead_letters: kept,
        }
    }

    /// As long as any row lives.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let letters = self.dead_letters?;
        Some(self.executions?.max(self.outputs?).max(letters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_ever_is_longest() {
        let day = Duration::from_secs(86_400);
        let mut kept = Retention::all(Some(day));
        assert_eq!(kept.longest(), Some(day));
        kept.outputs = Some(day * 3);
        assert_eq!(kept.longest(), Some(day * 3));
        kept.dead_letters = None;
        assert_eq!(kept.longest(), None);
    }
}
