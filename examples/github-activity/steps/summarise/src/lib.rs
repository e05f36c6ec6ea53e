//! One line that a person can read, and the fields to filter by. Joins the activity with what `alert` made of it; that
//! branch is silent for most events.

use activity::{Activity, Count, Text};
use serde::{Deserialize, Serialize};
use weir_step::{Context, Event, Failure, Output, Step};

#[derive(Deserialize)]
struct Alert<'a> {
    #[serde(borrow)]
    severity: Text<'a>,
    urgent: bool,
}

#[derive(Serialize)]
struct Summary<'a> {
    line: String,
    kind: &'a Text<'a>,
    #[serde(skip_serializing_if = "Text::is_none")]
    action: &'a Text<'a>,
    #[serde(skip_serializing_if = "Text::is_none")]
    category: &'a Text<'a>,
    #[serde(skip_serializing_if = "Text::is_none")]
    repo: &'a Text<'a>,
    #[serde(skip_serializing_if = "Text::is_none")]
    actor: &'a Text<'a>,
    bot: bool,
    #[serde(skip_serializing_if = "Text::is_none")]
    time: &'a Text<'a>,
    #[serde(skip_serializing_if = "Text::is_none")]
    url: &'a Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    urgent: bool,
}

/// The edge that the alert comes over; the activity comes over the other.
const ALERT: &str = "alert.out";

const TITLE_CHARS_MAX: usize = 80;

struct Summarise;
weir_step::export!(Summarise);

impl Step for Summarise {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = input
            .iter()
            .find(|event| event.edge != ALERT)
            .ok_or_else(|| Failure::Fatal("an alert came without its activity".into()))?;
        let activity: Activity = event.json()?;
        let alert: Option<Alert> = weir_step::edge(&input, ALERT)
            .map(Event::json)
            .transpose()?;
        let summary = Summary {
            line: line(&activity, alert.as_ref()),
            kind: &activity.kind,
            action: &activity.action,
            category: &activity.category,
            repo: &activity.repo,
            actor: &activity.actor,
            bot: activity.bot,
            time: &activity.time,
            url: &activity.url,
            severity: alert.as_ref().and_then(|alert| alert.severity.get()),
            urgent: alert.as_ref().is_some_and(|alert| alert.urgent),
        };
        Ok(vec![Output::json(Output::OUT, &summary)?])
    }
}

/// `octocat: pull request #2 opened in octo/hello: Update the README (+3 -1)`.
fn line(activity: &Activity, alert: Option<&Alert>) -> String {
    let mut line = String::with_capacity(160);
    if let Some(severity) = alert
        .filter(|alert| alert.urgent)
        .and_then(|alert| alert.severity.get())
    {
        line.push('[');
        line.push_str(severity);
        line.push_str("] ");
    }
    line.push_str(activity.actor.get().unwrap_or("someone"));
    line.push_str(": ");
    for (i, word) in activity
        .kind
        .get()
        .unwrap_or("unknown")
        .split('_')
        .enumerate()
    {
        if i > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Count(Some(number)) = activity.number {
        line.push_str(" #");
        line.push_str(&number.to_string());
    }
    if let Some(action) = activity.action.get() {
        line.push(' ');
        line.push_str(action);
    }
    if let Some(repo) = activity.repo.get() {
        line.push_str(" in ");
        line.push_str(repo);
    }
    if let Some(title) = activity.title.get() {
        line.push_str(": ");
        shorten(title, &mut line);
    }
    count(activity, &mut line);
    line
}

/// The first line of a title, not too much of it.
fn shorten(title: &str, line: &mut String) {
    let first = title.lines().next().unwrap_or_default();
    match first.char_indices().nth(TITLE_CHARS_MAX) {
        Some((end, _)) => {
            line.push_str(&first[..end]);
            line.push('…');
        }
        None => line.push_str(first),
    }
}

fn count(activity: &Activity, line: &mut String) {
    let counts = &activity.counts;
    if let (Count(Some(additions)), Count(Some(deletions))) = (counts.additions, counts.deletions) {
        line.push_str(&format!(" (+{additions} -{deletions})"));
    } else if let Count(Some(commits)) = counts.commits {
        line.push_str(&format!(
            " ({commits} commit{})",
            if commits == 1 { "" } else { "s" }
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(activity: &str, alert: Option<&str>) -> String {
        let alert = alert.map(|alert| serde_json::from_str(alert).unwrap());
        line(&serde_json::from_str(activity).unwrap(), alert.as_ref())
    }

    #[test]
    fn nothing_known_is_still_a_line() {
        assert_eq!(said(r#"{"kind":"unknown"}"#, None), "someone: unknown");
    }

    #[test]
    fn a_pull_request() {
        let activity = r#"{"kind":"pull_request","action":"opened","repo":"octo/hello","actor":"octocat","number":2,
            "title":"Update the README\nand more","counts":{"commits":1,"additions":3,"deletions":1}}"#;
        assert_eq!(
            said(activity, None),
            "octocat: pull request #2 opened in octo/hello: Update the README (+3 -1)"
        );
    }

    #[test]
    fn an_urgent_alert_stands_in_front() {
        let activity = r#"{"kind":"dependabot_alert","action":"created","actor":"github"}"#;
        let urgent = r#"{"severity":"high","urgent":true}"#;
        assert_eq!(
            said(activity, Some(urgent)),
            "[high] github: dependabot alert created"
        );
        assert_eq!(
            said(activity, Some(r#"{"severity":"low","urgent":false}"#)),
            "github: dependabot alert created"
        );
    }

    #[test]
    fn a_long_title_is_cut() {
        let activity = format!(r#"{{"kind":"issues","title":"{}"}}"#, "ä".repeat(81));
        assert_eq!(
            said(&activity, None),
            format!("someone: issues: {}…", "ä".repeat(80))
        );
    }
}
