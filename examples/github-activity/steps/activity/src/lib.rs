//! What one GitHub event comes down to, whatever its kind. Each step reads it and writes it again; strings are
//! borrowed from the bytes that came in.

mod lenient;

pub use lenient::{Count, Object, Text};

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity<'a> {
    /// GitHub's name for the event, such as `pull_request`; `unknown` where nobody said.
    #[serde(borrow)]
    pub kind: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub action: Text<'a>,
    /// `owner/name`; for events of an organisation its login.
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub repo: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub actor: Text<'a>,
    /// RFC 3339; where the payload has none it is the trigger's time.
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub time: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub title: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub url: Text<'a>,
    /// The number of the issue, pull request, discussion or alert.
    #[serde(default, skip_serializing_if = "Count::is_none")]
    pub number: Count,
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub counts: Counts,
    /// What the payload says about a weakness, as it says it.
    #[serde(borrow, default, skip_serializing_if = "Finding::is_empty")]
    pub finding: Finding<'a>,
    /// Set by `classify`.
    #[serde(borrow, default, skip_serializing_if = "Text::is_none")]
    pub category: Text<'a>,
    /// Set by `classify`: no person did it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bot: bool,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    #[serde(skip_serializing_if = "Count::is_none")]
    pub commits: Count,
    #[serde(skip_serializing_if = "Count::is_none")]
    pub additions: Count,
    #[serde(skip_serializing_if = "Count::is_none")]
    pub deletions: Count,
    #[serde(skip_serializing_if = "Count::is_none")]
    pub changed_files: Count,
    #[serde(skip_serializing_if = "Count::is_none")]
    pub comments: Count,
}

impl Counts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding<'a> {
    #[serde(borrow, skip_serializing_if = "Text::is_none")]
    pub severity: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Text::is_none")]
    pub state: Text<'a>,
    /// The package, the rule or the kind of secret.
    #[serde(borrow, skip_serializing_if = "Text::is_none")]
    pub what: Text<'a>,
}

impl Finding<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
