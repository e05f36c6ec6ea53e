//! What is wrong with a graph file, and how it is said.

use std::error::Error;

use miette::Diagnostic;
use schemas::graph::parse;

/// A graph that is right but for `rest`; `rest` begins on line 4.
fn check(rest: &str, expected: &[&str]) {
    check_file(
        &format!("weir: 1\nname: a\ntriggers: {{t: {{manual: {{}}}}}}\n{rest}\n"),
        expected,
    );
}

/// Each problem as `line:column: message | help`.
fn check_file(text: &str, expected: &[&str]) {
    let problems = parse(text, "g.yaml").expect_err(text);
    let found: Vec<String> = problems
        .list()
        .iter()
        .map(|p| {
            format!(
                "{}:{}: {}{}",
                p.line,
                p.column,
                p.message,
                p.help
                    .as_ref()
                    .map(|h| format!(" | {h}"))
                    .unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(found, expected, "in\n{text}");
}

const STEP: &str = "steps: {s: {uses: x, from: [t]}}";

#[test]
fn the_head() {
    check_file("", &["1:1: the file is empty | begin with \"weir: 1\""]);
    let rest = format!("triggers: {{t: {{manual: {{}}}}}}\n{STEP}\n");
    check_file(
        &format!("name: a\n{rest}"),
        &["1:1: the file does not say \"weir: 1\" | begin with \"weir: 1\""],
    );
    check_file(
        &format!("weir: 2\nname: a\n{rest}"),
        &["1:7: \"weir\" is 2, which is out of range | write 1"],
    );
    check_file(
        &format!("weir: 1\n{rest}"),
        &["1:1: the graph has no name | add \"name: my-graph\""],
    );
    check_file(
        &format!("weir: 1\nname: A b\n{rest}"),
        &[
            "2:7: \"A b\" is not a name | use a-z, 0-9, \"_\" and \"-\", beginning with a letter or digit, at most 63 characters",
        ],
    );
    check_file(
        &format!("weir: 1\nname: weir-x\n{rest}"),
        &[
            "2:7: \"weir-x\" is reserved: names that begin with \"weir\" are Weir's own | choose another name",
        ],
    );
    check_file(
        &format!("weir: 1\nname: 7\n{rest}"),
        &["2:7: \"name\" must be text, not a number | put it in quotes"],
    );
    check_file(
        "weir: 1\nname: a\n",
        &[
            "1:1: the graph has no triggers: nothing would start it | add one, such as \"triggers: { hand: { manual: {} } }\"",
            "1:1: the graph has neither steps nor sinks: it would do nothing | add a step that takes from a trigger, such as \"steps: { first: { uses: ./first.wasm, from: [hand] } }\"",
        ],
    );
    check_file("[1, 2]", &["1:1: the file must be a map, not a list"]);
    check(
        &format!("{STEP}\nstep: {{}}\n"),
        &["5:1: unknown field \"step\" | did you mean \"steps\"?"],
    );
    check(
        &format!("{STEP}\non_error: drop\n"),
        &["5:11: unknown on_error: \"drop\" | known: dead-letter, discard, pause"],
    );
}

#[test]
fn what_is_no_yaml() {
    check_file(
        "weir: 1\nname: [a\n",
        &["2:7: not valid YAML: unclosed bracket '['"],
    );
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let said = parse(bomb, "g").unwrap_err().to_string();
    assert!(said.contains("not valid YAML"), "{said}");
    let deep = format!("weir: {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(
        parse(&deep, "g")
            .unwrap_err()
            .to_string()
            .contains("not valid YAML")
    );
    let large = format!("weir: 1\n# {}\n", "x".repeat(1 << 20));
    assert!(
        parse(&large, "g")
            .unwrap_err()
            .to_string()
            .contains("at most 1048576")
    );
}

#[test]
fn names_and_duplicates() {
    check(
        "steps:\n  s: {uses: x, from: [t]}\n  s: {uses: y, from: [t]}",
        &["6:3: \"s\" is here a second time | the first is on line 5; remove one or rename it"],
    );
    check(
        "steps: {t: {uses: x, from: [t]}}",
        &["4:9: \"t\" is the name of a trigger and of a step | rename one of them"],
    );
    check(
        &format!("{STEP}\nsinks: {{s: {{scylla: {{to: d, table: k.t}}, from: [s]}}}}"),
        &["5:9: \"s\" is the name of a step and of a sink | rename one of them"],
    );
    check(
        "steps: {s: {uses: x, uses: y, from: [t], settings: {a: 1, a: 2}}}",
        &[
            "4:22: \"uses\" is here a second time | the first is on line 4; remove one or rename it",
            "4:59: \"a\" is here a second time | the first is on line 4; remove one or rename it",
        ],
    );
    check(
        "steps: {S.1: {uses: x, from: [t]}}",
        &[
            "4:9: \"S.1\" is not a name | use a-z, 0-9, \"_\" and \"-\", beginning with a letter or digit, at most 63 characters",
        ],
    );
    check(
        "steps: {s: {uses: x, ports: [a, a], from: [t]}}",
        &["4:33: the port \"a\" is named twice | remove one"],
    );
}

#[test]
fn fields_and_forms() {
    check(
        "steps: {s: {uses: x, form: [t]}}",
        &[
            "4:9: step \"s\" has no \"from\" | from: Where its events come from: triggers, steps (their port `out`) or `step.port`",
            "4:22: unknown field \"form\" | did you mean \"from\"?",
        ],
    );
    check(
        "steps: {s: {uses: x, from: t}}",
        &["4:28: \"from\" must be a list, not text | write [t]"],
    );
    check(
        "steps: {s: {uses: x, from: [t], zzz: 1}}",
        &[
            "4:33: unknown field \"zzz\" | known fields: from, hop, http, isolation, join, limits, log, on_error, ports, retry, secrets, settings, uses, when",
        ],
    );
    check(
        "steps: {s: {uses: x, from: [t], isolation: fresh, join: any, on_error: skip}}",
        &[
            "4:44: unknown isolation: \"fresh\" | known: record, batch",
            "4:57: unknown join: \"any\" | known: all",
            "4:72: unknown on_error: \"skip\" | known: fail, continue, route",
        ],
    );
    check(
        "steps: {s: {uses: x, from: [t], retry: {attempts: 0, backoff: linear, order: kepe}}}",
        &[
            "4:51: \"attempts\" is 0, which is out of range | from 1 to 100",
            "4:63: unknown backoff: \"linear\" | known: constant, exponential",
            "4:78: unknown order: \"kepe\" | did you mean \"keep\"? known: keep, release",
        ],
    );
    check(
        "steps: {s: {uses: x, from: [t], limits: {time: 2, memory: 64, output: 8MiB}}}",
        &[
            "4:48: \"time\" must be text, not a number | put it in quotes",
            "4:59: \"memory\" must be text, not a number | put it in quotes",
        ],
    );
    check(
        "steps: {s: {uses: x, from: [t], limits: {time: 2y, memory: 64Mb}}}",
        &[
            "4:48: \"2y\" is no duration | write a whole number and a unit (ms, s, m, h), such as 500ms, 2s or 1m",
            "4:60: \"64Mb\" is no size | write a whole number and a unit (B, KiB, MiB, GiB, KB, MB, GB), such as 64MiB or 10MB",
        ],
    );
    check(
        "steps: {s: {uses: x, from: [t], limits: {time: 1h, memory: 1B, output: 1GiB}}}",
        &[
            "4:48: \"time\" is 1h, which is out of range | from 1ms to 5m",
            "4:60: \"memory\" is 1B, which is out of range | from 64KiB to 4GiB",
            "4:72: \"output\" is 1GiB, which is out of range | from 1B to 256MiB",
        ],
    );
    check(
        "steps: {s: {uses: '', from: [t], http: {allow: ['https://a/b']}, secrets: [a-b]}}",
        &[
            "4:19: this names no module | write a path such as ./check.wasm, a module such as price@1.2.0, or sha256:…",
            "4:49: \"https://a/b\" is no host | write a host such as api.example.com or api.example.com:8443, without https:// and without a path",
            "4:76: this is no secret's name | a secret is named, never written down here: letters, digits and \"_\", such as ORDERS_KEY",
        ],
    );
    check(
        "steps: {s: {uses: 'sha256:12', from: [t]}}",
        &["4:19: this is no digest | write sha256: and 64 digits of 0-9 and a-f"],
    );
}

#[test]
fn triggers() {
    let with = |triggers: &str| {
        format!("weir: 1\nname: a\ntriggers: {triggers}\nsteps: {{s: {{uses: x, from: [t]}}}}\n")
    };
    check_file(
        &with("{t: {webhok: {path: /x}}}"),
        &["3:16: unknown trigger kind or field \"webhok\" | did you mean \"webhook\"?"],
    );
    check_file(
        &with("{t: {amqp: {}}}"),
        &[
            "3:16: unknown trigger kind or field \"amqp\" | known trigger kinds: webhook, cron, topic, postgres, manual",
        ],
    );
    check_file(
        &with("{t: {}}"),
        &["3:12: trigger \"t\" has no kind | add one of: webhook, cron, topic, postgres, manual"],
    );
    check_file(
        &with("{t: {manual: {}, cron: {schedule: 0 2 * * *}}}"),
        &["3:28: trigger \"t\" has more than one kind: cron, manual | make each its own entry"],
    );
    check_file(
        &with("{t: {webhook: {path: x}}}"),
        &["3:32: a webhook's path begins with \"/\" | write /x"],
    );
    check_file(
        &with("{t: {webhook: {path: /x}}, u: {webhook: {path: /x}}}"),
        &["3:58: trigger \"u\" has the same webhook path as \"t\" | give each its own path"],
    );
    check_file(
        &with("{t: {webhook: {path: /x, verify: {scheme: git, secret: K}}}}"),
        &["3:53: unknown scheme: \"git\" | known: github, standard"],
    );
    check_file(
        &with("{t: {webhook: {path: /a/../b, schema: ''}}}"),
        &[
            "3:32: a webhook's path has no empty parts, \".\" or \"..\" | write it plainly, such as /orders",
            "3:49: \"schema\" is no path | write a file's path, or the schema itself as a map",
        ],
    );
    check_file(
        &with("{t: {cron: {schedule: daily}}}"),
        &[
            "3:33: this is no schedule | write five fields: minute, hour, day of the month, month, day of the week; such as \"0 2 * * *\"",
        ],
    );
    check_file(
        &with("{t: {topic: {name: weir.triggers, format: json, from: now}}}"),
        &[
            "3:30: the topic \"weir.triggers\" is refused: topics that begin with \"weir\" are Weir's own | name another topic",
            "3:65: a topic cannot start from \"now\" | write latest, earliest or a time such as 2026-01-31T00:00:00Z",
        ],
    );
}

#[test]
fn sinks() {
    check(
        "sinks: {s: {from: [t]}}",
        &["4:9: sink \"s\" has no kind | add one of: postgres, scylla, topic"],
    );
    check(
        "sinks: {s: {kafka: {}, from: [t]}}",
        &["4:13: unknown sink kind or field \"kafka\" | known sink kinds: postgres, scylla, topic"],
    );
    check(
        "sinks: {s: {postgres: {to: d, table: weir_positions, mode: upsert}, from: [t]}}",
        &[
            "4:38: the table \"weir_positions\" is refused: tables that begin with \"weir\" are Weir's own | name another table",
            "4:60: this mode needs to know which columns name a row | add \"key: [id]\"",
        ],
    );
    check(
        "sinks: {s: {topic: {name: weird, format: json}, from: [t]}}",
        &[
            "4:27: the topic \"weird\" is refused: topics that begin with \"weir\" are Weir's own | name another topic",
        ],
    );
    check(
        "sinks: {s: {topic: {name: x, format: json, key: event.dat.id}, from: [t]}}",
        &["4:49: an event has no \"dat\" | did you mean \"event.data\"?"],
    );
}

#[test]
fn edges() {
    check(
        "steps: {check: {uses: x, ports: [ok], from: [t]}, s: {uses: x, from: [check]}}",
        &["4:71: the step \"check\" has no port \"out\" | did you mean \"check.ok\"?"],
    );
    check(
        "steps: {check: {uses: x, ports: [ok, bad], from: [t]}, s: {uses: x, from: [check.okay, chekc.bad, t.out]}}",
        &[
            "4:76: the step \"check\" has no port \"okay\" | did you mean \"check.ok\"?",
            "4:88: there is no trigger or step \"chekc\" | did you mean \"check.bad\"?",
            "4:99: the trigger \"t\" has no port \"out\": triggers have none | write t",
        ],
    );
    check(
        "steps: {s: {uses: x, from: []}}",
        &["4:28: \"s\" takes from nothing | name a trigger or a step: t, s.out"],
    );
    check(
        "steps: {s: {uses: x, from: [t, t]}}",
        &["4:32: \"s\" takes from \"t\" twice | remove one"],
    );
    check(
        "steps: {s: {uses: x, from: [nobody]}}",
        &["4:29: there is no trigger or step \"nobody\" | there are: t, s.out"],
    );
    check(
        "sinks: {o: {scylla: {to: d, table: t}, from: [t]}}\nsteps: {s: {uses: x, from: [o]}}",
        &["5:29: \"o\" is a sink: nothing comes out of it | take from what feeds it: t, s.out"],
    );
}

#[test]
fn cycles_and_what_cannot_be_reached() {
    check(
        "steps: {a: {uses: x, from: [a]}}",
        &[
            "4:29: the steps run in a circle: a → a | take \"a\" out of the \"from\" of \"a\", or another edge of the circle",
        ],
    );
    check(
        "steps:\n  a: {uses: x, from: [t, c]}\n  b: {uses: x, from: [a]}\n  c: {uses: x, from: [b]}",
        &[
            "5:26: the steps run in a circle: a → b → c → a | take \"c\" out of the \"from\" of \"a\", or another edge of the circle",
        ],
    );
    check(
        "steps:\n  a: {uses: x, from: [b]}\n  b: {uses: x, from: [a]}\n  c: {uses: x, from: [b]}",
        &[
            "5:23: the steps run in a circle: a → b → a | take \"b\" out of the \"from\" of \"a\", or another edge of the circle",
            "7:3: the step \"c\" can never run | no trigger leads to it; name one in the \"from\" of this step or of one before it",
        ],
    );
}

#[test]
fn joins_across_hops() {
    check(
        "steps:\n  h: {uses: x, from: [t], hop: event.key}\n  j: {uses: x, from: [t, h], join: all}",
        &[
            "6:36: the join \"j\" gathers across a hop: \"t\" runs before any hop, \"h.out\" behind the hop of \"h\" | put the hop on \"j\" itself or behind it, or join before the hop",
        ],
    );
    check(
        "steps:\n  h: {uses: x, from: [t], hop: event.key}\n  i: {uses: x, from: [t], hop: event.key}\n  a: {uses: x, from: [h]}\n  j: {uses: x, from: [a, i], join: all}",
        &[
            "8:36: the join \"j\" gathers across a hop: \"a.out\" runs behind the hop of \"h\", \"i.out\" behind the hop of \"i\" | put the hop on \"j\" itself or behind it, or join before the hop",
        ],
    );
}

#[test]
fn expressions() {
    let step = |when: &str| format!("steps: {{s: {{uses: x, from: [t], when: {when}}}}}");
    check(
        &step("event.data.x >"),
        &[
            "4:53: not an expression: mismatched input '<EOF>' | CEL is expected, such as event.data.total > 1000",
        ],
    );
    check(
        &step("evnt.data.x == 1"),
        &["4:39: unknown name \"evnt\" | there is only \"event\", such as event.data"],
    );
    check(
        &step("'event.data.matchs(\"a\")'"),
        &[
            "4:51: unknown function \"matchs\" | there are size, contains, startsWith, endsWith, string, bytes, int, uint, double, bool, type, dyn and has, all, exists, exists_one, map, filter",
        ],
    );
    check(
        &step("event.data.siez() > 1"),
        &["4:50: unknown function \"siez\" | did you mean \"size\"?"],
    );
    check(&step("''"), &["4:39: the expression is empty"]);
    check(
        &step("true"),
        &["4:39: \"when\" must be text, not true or false | put it in quotes"],
    );
    check(
        "steps:\n  s:\n    uses: x\n    from: [t]\n    when: >-\n      event.data.a\n      && event.dat",
        &["9:7: an event has no \"dat\" | did you mean \"event.data\"?"],
    );
}

#[test]
fn all_is_said_at_once_and_in_order() {
    let text = include_str!("wrong.yaml");
    let problems = parse(text, "wrong.yaml").unwrap_err();
    insta::assert_snapshot!(problems.to_string());
    let lines: Vec<usize> = problems.list().iter().map(|problem| problem.line).collect();
    assert!(lines.is_sorted());
}

#[test]
fn problems_are_an_error_a_diagnostic_and_json() {
    let problems = parse(
        "weir: 1\nname: ä\ntriggers: {t: {manual: {}}}\nsteps: {ß: {uses: x, from: [u]}}\n",
        "g.yaml",
    )
    .unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(
        json[2],
        serde_json::json!({"message": "there is no trigger or step \"u\"", "help": "did you mean \"t\"?", "line": 4, "column": 29})
    );
    assert!(problems.source_code().is_some());
    let related: Vec<_> = problems.related().unwrap().collect();
    assert_eq!(related.len(), 3);
    assert!(related[0].labels().unwrap().next().is_some() && related[0].help().is_some());
    assert!(Error::source(&problems).is_none());
}
