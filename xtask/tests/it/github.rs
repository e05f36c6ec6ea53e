//! The sender against a hook that is played here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use xtask::github::{self, Format, Options};

const SECRET: &str = "It's a Secret to Everybody";

fn options(url: String) -> Options {
    Options {
        url,
        secret: SECRET.into(),
        again: true,
        output: Format::Table,
    }
}

/// Answers every request with what `answer` makes of its delivery id, on one connection, until it is closed.
fn hook(
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://{}/hooks/default/github",
        listener.local_addr().unwrap()
    );
    let hook = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut requests = 0;
        loop {
            let (mut length, mut delivery, mut signature) = (0, String::new(), String::new());
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() == 0 {
                    return requests;
                }
                match line.trim().split_once(": ") {
                    Some(("content-length", value)) => length = value.parse().unwrap(),
                    Some(("x-github-delivery", value)) => delivery = value.into(),
                    Some(("x-hub-signature-256", value)) => signature = value.into(),
                    _ if line == "\r\n" => break,
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            assert_eq!(signature, github::signature(SECRET, &body));
            requests += 1;
            let answer = answer(&delivery);
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, hook)
}

fn answered(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn every_payload_is_sent_and_sent_again() {
    let (url, hook) = hook(|delivery| {
        answered(
            "202 Accepted",
            &format!("{{\"execution\":\"e-{delivery}\"}}"),
        )
    });
    let report = github::send(&xtask::root(), &options(url)).unwrap();
    println!("{report}");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(
        (report.accepted, report.same_again),
        (report.sent, Some(report.sent))
    );
    assert_eq!(hook.join().unwrap(), 2 * report.sent);
}

#[test]
fn one_id_for_all_and_a_refusal_are_problems() {
    let (url, _hook) = hook(|_| answered("202 Accepted", "{\"execution\":\"same\"}"));
    let report = github::send(&xtask::root(), &options(url)).unwrap();
    assert!(
        report.problems[0].contains("an id already given"),
        "{report}"
    );

    let (url, _hook) = hook(|_| answered("401 Unauthorized", "wrong signature"));
    let report = github::send(&xtask::root(), &options(url)).unwrap();
    assert_eq!(report.accepted, 0);
    assert!(
        report.problems[0].ends_with("answered 401: wrong signature"),
        "{report}"
    );
}

#[test]
fn other_machines_are_refused() {
    for url in [
        "http://192.0.2.1/x",
        "http://192.0.2.1:8080/x",
        "https://127.0.0.1/x",
        "http://[2001:db8::1]:80/x",
    ] {
        let error = github::send(&xtask::root(), &options(url.into()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("loopback") || error.contains("http://"),
            "{error}"
        );
    }
}

/// The value that GitHub's documentation gives for checking an implementation.
#[test]
fn signatures_are_github_s() {
    let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(github::signature(SECRET, b"Hello, World!"), expected);
}
