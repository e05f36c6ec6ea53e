//! T23: a step cannot be used to reach what is not public: addresses in all notations, names that lead inside, redirects, and names that
//! change their mind. Every URL is granted by the graph, so that it is the address that is refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use processor::wasm::EngineConfig;
use xtask::proof::Row;

use crate::upstream::Upstream;
use crate::wasm::Steps;

fn steps(world: std::sync::Arc<dyn processor::wasm::Outside>) -> Steps {
    let config = EngineConfig {
        instances_max: 16,
        ..EngineConfig::default()
    };
    Steps::reaching(config, world)
}

/// Hosts, as an author or an attacker may write them; all of them are granted.
const LITERALS: [&str; 62] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.1",
    "127.255.255.255",
    "0.0.0.0",
    "0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0177.1",
    "127.0.1",
    "10.0.0.1",
    "10.255.255.255",
    "167772161",
    "012.0.0.1",
    "0xa.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "2886729729",
    "192.168.0.1",
    "192.168.1.254",
    "3232235777",
    "0xc0a80101",
    "0300.0250.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fd12:3456::1]",
    "[ff02::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[100::1]",
];

/// Names, and what they lead to.
const NAMES: [(&str, &str); 14] = [
    ("localhost", "127.0.0.1"),
    ("localhost6.example", "::1"),
    ("127.0.0.1.nip.io", "127.0.0.1"),
    ("10-0-0-1.nip.io", "10.0.0.1"),
    ("a9fea9fe.nip.io", "169.254.169.254"),
    ("metadata.google.internal", "169.254.169.254"),
    ("intranet.example", "192.168.7.7"),
    ("mapped.example", "::ffff:10.0.0.1"),
    ("nat64.example", "64:ff9b::a00:1"),
    ("ula.example", "fd00::7"),
    ("cgnat.example", "100.64.9.9"),
    ("link.example", "fe80::1"),
    ("zero.example", "0.0.0.0"),
    ("spoofed.example", "169.254.169.254"),
];

#[test]
fn nothing_inside_is_reached() {
    let upstream = Upstream::start();
    let port = upstream.port();
    let addresses = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    let public: IpAddr = "93.184.216.34".parse().unwrap();
    let mut names: HashMap<String, Vec<Vec<IpAddr>>> = NAMES
        .iter()
        .map(|(name, leads)| ((*name).to_owned(), vec![addresses(leads)]))
        .collect();
    // one good address does not make a bad one good
    names.insert(
        "mixed.example".into(),
        vec![vec![public, "10.0.0.1".parse().unwrap()]],
    );
    let world = upstream.world_with(&[], names);
    let mut steps = steps(world);
    let http = steps.guest("http");
    let mut hosts: Vec<String> = LITERALS.iter().map(|&host| host.to_owned()).collect();
    hosts.extend(NAMES.iter().map(|(name, _)| (*name).to_owned()));
    hosts.push("mixed.example".into());
    let mut refused = 0;
    for host in &hosts {
        for (scheme, granted) in [("http", format!("{host}:{port}")), ("https", host.clone())] {
            steps.http_allow = vec![granted];
            let url = match scheme {
                "http" => format!("http://{host}:{port}/count"),
                _ => format!("https://{host}/count"),
            };
            let answer = steps.text(&http, &format!(r#"{{"urls":["{url}"]}}"#));
            // an address that no grant can name is refused as one that is not granted
            assert!(
                answer.contains("DestinationIpProhibited")
                    || answer.contains("HttpRequestDenied")
                    || answer.contains("HttpRequestUriInvalid"),
                "{url}: {answer}"
            );
            refused += 1;
        }
    }
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 0, "nothing arrived");
    Row {
        id: "T23",
        title: "SSRF: addresses in all notations, names that lead inside",
        injected: refused,
        expected: "every URL refused, none of them arrived".into(),
        passed: true,
        ..Row::default()
    }
    .keep()
    .unwrap();
}

#[test]
fn a_redirect_is_followed_by_nobody_and_its_target_is_checked() {
    let upstream = Upstream::start();
    let port = upstream.port();
    // this very address is opened, as an operator may; what it leads to is not
    let world = upstream.world_with(&["127.0.0.1/32"], HashMap::new());
    let mut steps = steps(world);
    steps.http_allow = vec![
        upstream.host(),
        "169.254.169.254:80".into(),
        format!("127.0.0.2:{port}"),
    ];
    let http = steps.guest("http");
    for target in [
        "http://169.254.169.254/latest/meta-data",
        &format!("http://127.0.0.2:{port}/count"),
    ] {
        let url = upstream.url(&format!("/to?{target}"));
        let answers = steps.text(&http, &format!(r#"{{"urls":["{url}","{target}"]}}"#));
        assert_eq!(answers, r#"["302 ","ErrorCode::DestinationIpProhibited"]"#);
    }
}

#[test]
fn a_name_that_changes_its_mind_is_looked_at_again() {
    let upstream = Upstream::start();
    let port = upstream.port();
    let (good, bad) = ("127.0.0.1".parse().unwrap(), "127.0.0.9".parse().unwrap());
    let names = HashMap::from([("rebinds.example".to_owned(), vec![vec![good], vec![bad]])]);
    let world = upstream.world_with(&["127.0.0.1/32"], names);
    let mut steps = steps(world);
    steps.http_allow = vec![format!("rebinds.example:{port}")];
    let http = steps.guest("http");
    // the first connection breaks off, so that a second one has to be made: its name now leads elsewhere
    let url = format!("http://rebinds.example:{port}");
    let answers = steps.text(
        &http,
        &format!(r#"{{"urls":["{url}/breaks","{url}/count"]}}"#),
    );
    assert!(answers.contains("DestinationIpProhibited"), "{answers}");
    assert!(!answers.contains("\"200"), "{answers}");
}

#[test]
fn what_the_graph_does_not_name_is_refused_with_the_line_to_add() {
    let upstream = Upstream::start();
    let mut steps = steps(upstream.world());
    steps.http_allow = vec!["api.example.com".into()];
    let http = steps.guest("http");
    let called = steps.call(
        &http,
        &format!(r#"{{"urls":["{}"]}}"#, upstream.url("/count?token=hunter2")),
    );
    let logged: Vec<&str> = called.logs.iter().map(|log| log.message.as_str()).collect();
    let line = logged.join("\n");
    assert!(
        line.contains(&format!("does not grant \"{}\"", upstream.host())),
        "{line}"
    );
    assert!(
        !line.contains("hunter2"),
        "a query may hold what is nobody's business: {line}"
    );
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 0);
}
