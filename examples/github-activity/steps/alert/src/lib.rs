//! How bad is it? Every kind of alert says so in its own words; out comes one scale.

use activity::{Activity, Text};
use serde::Serialize;
use weir_step::{Context, Event, Failure, Output, Step};

#[derive(Serialize)]
struct Alert<'a> {
    severity: &'static str,
    /// Somebody should look now.
    urgent: bool,
    #[serde(skip_serializing_if = "Text::is_none")]
    what: Text<'a>,
}

struct Grade;
weir_step::export!(Grade);

impl Step for Grade {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        Ok(vec![Output::json(Output::OUT, &grade(event.json()?))?])
    }
}

fn grade(activity: Activity<'_>) -> Alert<'_> {
    let severity = match (activity.finding.severity.get(), activity.kind.get()) {
        (Some("critical"), _) => "critical",
        (Some("high" | "error"), _) => "high",
        (Some("medium" | "moderate" | "warning"), _) => "medium",
        (Some(_), _) => "low",
        // A secret that leaked has no severity: it is open or it is not.
        (None, Some("secret_scanning_alert" | "secret_scanning_alert_location")) => "critical",
        (None, _) => "unknown",
    };
    let closed = [
        "fixed",
        "dismissed",
        "resolved",
        "auto_dismissed",
        "resolve",
        "dismiss",
        "closed",
        "closed_by_user",
    ];
    let is_open = |text: &Text<'_>| text.get().is_none_or(|text| !closed.contains(&text));
    let open = is_open(&activity.finding.state) && is_open(&activity.action);
    Alert {
        severity,
        urgent: open && matches!(severity, "critical" | "high"),
        what: activity.finding.what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graded(activity: &str) -> (&'static str, bool) {
        let alert = grade(serde_json::from_str(activity).unwrap());
        (alert.severity, alert.urgent)
    }

    #[test]
    fn each_kind_of_alert_is_graded() {
        let kinds = [
            (
                r#"{"kind":"dependabot_alert","action":"created","finding":{"severity":"high","state":"open"}}"#,
                ("high", true),
            ),
            (
                r#"{"kind":"dependabot_alert","action":"fixed","finding":{"severity":"high","state":"fixed"}}"#,
                ("high", false),
            ),
            (
                r#"{"kind":"code_scanning_alert","finding":{"severity":"warning"}}"#,
                ("medium", false),
            ),
            (
                r#"{"kind":"secret_scanning_alert","action":"created"}"#,
                ("critical", true),
            ),
            (
                r#"{"kind":"secret_scanning_alert","action":"resolved"}"#,
                ("critical", false),
            ),
            (r#"{"kind":"security_and_analysis"}"#, ("unknown", false)),
        ];
        for (activity, expected) in kinds {
            assert_eq!(graded(activity), expected, "{activity}");
        }
    }
}
