//! Whose webhook it is. (What signatures look like is tested where they are checked.)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::line::{Line, START_US, sign};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_signature_must_be_there_and_right() {
    let line = Line::new().await;
    let good = sign("{}");
    let mut answers = Vec::new();
    for (header, value, body) in [
        ("x-other", good.as_str(), "{}"),
        ("x-hub-signature-256", "", "{}"),
        ("x-hub-signature-256", "sha256=", "{}"),
        ("x-hub-signature-256", &good[..40], "{}"),
        ("x-hub-signature-256", &good.to_uppercase(), "{}"),
        ("x-hub-signature-256", &good[7..], "{}"),
        ("x-hub-signature-256", &format!("{good}00"), "{}"),
        ("x-hub-signature-256", &sign("{} "), "{}"),
        ("x-hub-signature-256", &good, "{} "),
        ("x-hub-signature", &format!("sha1={}", &good[7..47]), "{}"),
    ] {
        let answer = line
            .post(
                "/hooks/default/github",
                &[(header, value), ("x-github-delivery", "d")],
                body.to_owned(),
            )
            .await;
        assert_eq!(answer.status, 401, "{header}: {value}");
        answers.push(answer.body);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "no answer tells more than another"
    );
    assert!(line.triggers().is_empty());
    assert_eq!(
        line.github("d", "{}").await.status,
        202,
        "a refused delivery has used nothing up"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_signature_holds_for_five_minutes() {
    let line = Line::new().await;
    let send = |at_s: u64, body: &'static str, signed: &'static str| {
        let line = &line;
        async move {
            let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("msg_1.{at_s}.{signed}").as_bytes());
            let signature = format!(
                "v1,AAAA v1,{}",
                STANDARD.encode(mac.finalize().into_bytes())
            );
            let headers = [
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", &at_s.to_string()),
                ("webhook-signature", &signature),
            ];
            line.post("/hooks/default/shop", &headers, body).await
        }
    };
    let now_s = START_US / 1_000_000;
    let first = send(now_s, "{}", "{}").await;
    assert_eq!(first.status, 202, "{}", first.body);
    let again = send(now_s + 299, "{}", "{}").await;
    assert_eq!(
        again.execution(),
        first.execution(),
        "sent again, signed again"
    );
    assert_eq!(send(now_s - 301, "{}", "{}").await.status, 401);
    assert_eq!(send(now_s + 301, "{}", "{}").await.status, 401);
    assert_eq!(send(now_s, "{}", "{ }").await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_missing_is_our_fault_and_lets_nobody_in() {
    let line = Line::new().await;
    for signature in [sign("{}"), String::new()] {
        let answer = line
            .post(
                "/hooks/default/lost",
                &[("x-hub-signature-256", &signature)],
                "{}",
            )
            .await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"));
        assert!(
            !answer.body.to_string().contains("MISSING"),
            "{}",
            answer.body
        );
    }
}
