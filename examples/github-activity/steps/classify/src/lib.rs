//! Sorts an [`Activity`] into a category. Everything goes out on `activity`; what is about a weakness also on
//! `security`.

use activity::Activity;
use weir_step::{Context, Event, Failure, Output, Step};

struct Classify;
weir_step::export!(Classify);

impl Step for Classify {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let event = weir_step::single(input)?;
        let mut activity: Activity = event.json()?;
        let category = category(activity.kind.get().unwrap_or_default());
        activity.category = category.into();
        activity.bot = activity
            .actor
            .get()
            .is_some_and(|actor| actor.ends_with("[bot]"));
        let output = Output::json("activity", &activity)?;
        if category != SECURITY {
            return Ok(vec![output]);
        }
        let security = Output {
            port: "security".into(),
            ..output.clone()
        };
        Ok(vec![output, security])
    }
}

const SECURITY: &str = "security";

fn category(kind: &str) -> &'static str {
    match kind {
        "dependabot_alert"
        | "code_scanning_alert"
        | "secret_scanning_alert"
        | "secret_scanning_alert_location"
        | "repository_vulnerability_alert"
        | "security_advisory"
        | "repository_advisory"
        | "security_and_analysis" => SECURITY,
        "push"
        | "create"
        | "delete"
        | "commit_comment"
        | "merge_group"
        | "branch_protection_rule" => "code",
        _ if kind.starts_with("pull_request") => "review",
        "issues" | "issue_comment" | "milestone" | "label" => "issue",
        _ if kind.starts_with("discussion") => "discussion",
        "release" | "package" | "registry_package" => "release",
        "check_run" | "check_suite" | "status" | "page_build" => "build",
        _ if kind.starts_with("workflow") || kind.starts_with("deployment") => "build",
        _ if kind.starts_with("project") => "planning",
        "star" | "watch" | "fork" | "sponsorship" | "gollum" | "public" => "community",
        "member" | "membership" | "team" | "team_add" | "organization" | "org_block" => "people",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(activity: &str) -> Vec<(String, String)> {
        let context = Context {
            tenant: "default".into(),
            graph: "github-activity".into(),
            version: String::new(),
            execution: String::new(),
            step: "classify".into(),
            attempt: 1,
            time_us: 0,
        };
        let event = Event {
            edge: "normalise.out".into(),
            key: None,
            content_type: "application/json".into(),
            headers: Vec::new(),
            data: activity.into(),
        };
        let outputs = Classify::handle(&context, vec![event]).unwrap();
        outputs
            .into_iter()
            .map(|output| (output.port, String::from_utf8(output.data).unwrap()))
            .collect()
    }

    #[test]
    fn most_events_are_activity_only() {
        let activity = r#"{"kind":"push","actor":"dependabot[bot]","category":"code","bot":true}"#;
        assert_eq!(
            ports(r#"{"kind":"push","actor":"dependabot[bot]"}"#),
            [("activity".into(), activity.into())]
        );
    }

    #[test]
    fn an_alert_goes_both_ways() {
        let ports = ports(r#"{"kind":"dependabot_alert","finding":{"severity":"high"}}"#);
        let names: Vec<&str> = ports.iter().map(|(port, _)| port.as_str()).collect();
        assert_eq!(names, ["activity", "security"]);
        assert_eq!(ports[0].1, ports[1].1);
    }
}
