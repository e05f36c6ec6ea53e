use super::*;

fn normalised(kind: Option<&str>, data: &str) -> Result<String, Failure> {
    let ctx = Context {
        tenant: "default".into(),
        graph: "github-activity".into(),
        version: String::new(),
        execution: String::new(),
        step: "normalise".into(),
        attempt: 1,
        time_us: 1_700_000_000_000_000,
    };
    let event = Event {
        edge: "github".into(),
        key: None,
        content_type: "application/json".into(),
        headers: kind
            .map(|kind| ("X-GitHub-Event".to_owned(), kind.into()))
            .into_iter()
            .collect(),
        data: data.into(),
    };
    Normalise::handle(&ctx, vec![event])
        .map(|outputs| String::from_utf8(outputs[0].data.clone()).unwrap())
}

#[test]
fn nothing_is_enough() {
    assert_eq!(
        normalised(Some("issues"), "{}").unwrap(),
        r#"{"kind":"issues","time":"2023-11-14T22:13:20Z"}"#
    );
    assert_eq!(
        normalised(None, "{}").unwrap(),
        r#"{"kind":"unknown","time":"2023-11-14T22:13:20Z"}"#
    );
}

#[test]
fn fields_of_other_types_are_as_good_as_none() {
    let odd = r#"{"action":1,"repository":"x","sender":[],"issue":null,"commits":{},"alert":true,"pull_request":{"number":"7"}}"#;
    assert_eq!(
        normalised(Some("issues"), odd).unwrap(),
        r#"{"kind":"issues","time":"2023-11-14T22:13:20Z"}"#
    );
}

#[test]
fn what_is_no_object_is_rejected() {
    for data in ["", "[]", "1", "\"x\"", "{", "payload=%7B%7D", "{}{}"] {
        assert!(
            matches!(normalised(Some("issues"), data), Err(Failure::Reject(_))),
            "{data}"
        );
    }
}

#[test]
fn by_hand_the_kind_is_in_the_body() {
    let wrapped = r#"{"event":"star","payload":{"action":"created","sender":{"login":"octocat"}}}"#;
    let expected =
        r#"{"kind":"star","action":"created","actor":"octocat","time":"2023-11-14T22:13:20Z"}"#;
    assert_eq!(normalised(None, wrapped).unwrap(), expected);
}

#[test]
fn a_comment_has_its_own_link_and_the_issue_s_title() {
    let payload = r#"{
        "action": "created",
        "issue": { "number": 1, "title": "A \"quoted\" title", "comments": 3, "updated_at": "2024-01-01T00:00:00Z",
            "html_url": "https://github.com/octo/hello/issues/1" },
        "comment": { "updated_at": "2024-02-01T00:00:00Z", "html_url": "https://github.com/octo/hello/issues/1#c" },
        "repository": { "full_name": "octo/hello", "html_url": "https://github.com/octo/hello" },
        "sender": { "login": "octocat" }
    }"#;
    let expected = r#"{"kind":"issue_comment","action":"created","repo":"octo/hello","actor":"octocat","time":"2024-02-01T00:00:00Z","title":"A \"quoted\" title","url":"https://github.com/octo/hello/issues/1#c","number":1,"counts":{"comments":3}}"#;
    assert_eq!(
        normalised(Some("issue_comment"), payload).unwrap(),
        expected
    );
}

#[test]
fn a_code_scanning_alert_names_its_rule() {
    let payload = r#"{"alert":{"number":4,"state":"open","rule":{"id":"js/xss","severity":"error","security_severity_level":"high"}}}"#;
    let text = normalised(Some("code_scanning_alert"), payload).unwrap();
    assert!(
        text.contains(r#""finding":{"severity":"high","state":"open","what":"js/xss"}"#),
        "{text}"
    );
}
