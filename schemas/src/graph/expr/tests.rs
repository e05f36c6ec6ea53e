//! Expressions on events: what they give, what they refuse, and that nothing makes them panic.

use proptest::prelude::*;

use super::*;

fn event(content_type: &str, data: &str) -> Event {
    Event {
        key: Some(Bytes::from_static(b"k")),
        content_type: content_type.to_owned(),
        headers: vec![
            ("a".into(), Bytes::from_static(b"1")),
            ("a".into(), Bytes::from_static(b"2")),
            ("b".into(), Bytes::from_static(b"\xff")),
        ],
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

const DATA: &str = r#"{"total":1500,"half":0.5,"big":18446744073709551615,"name":"Ann","ok":true,"nothing":null,
  "items":[{"id":"x","tags":["red","blue"]},{"id":"y","tags":[]}],"z":1,"a":{"b":{"c":7}}}"#;

/// The outcome as a key, or `!` and the error.
fn eval(text: &str, event: &Event) -> String {
    let expr = match Expr::parse(text) {
        Ok(expr) => expr,
        Err(error) => return format!("! {error}"),
    };
    match expr.eval_key(&Scope::new(event, "check.ok")) {
        Ok(Some(key)) => format!("{:?}", String::from_utf8_lossy(&key)),
        Ok(None) => "null".to_owned(),
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn values() {
    let json = event("application/json", DATA);
    for (text, expected) in [
        ("event.data.total > 1000", "\"true\""),
        ("event.data.total > 1000.5", "\"true\""),
        ("event.data.half", "\"0.5\""),
        ("event.data.big", "\"18446744073709551615\""),
        ("event.data.name", "\"Ann\""),
        ("event.data.nothing", "null"),
        ("event.data['name']", "\"Ann\""),
        ("event.data.items[1].id", "\"y\""),
        ("event.data.a.b.c", "\"7\""),
        (
            "event.data.items.exists(i, i.tags.exists(t, t == 'blue'))",
            "\"true\"",
        ),
        (
            "event.data.items.exists(i, i.id == event.data.name)",
            "\"false\"",
        ),
        (
            "event.data.items.filter(i, i.id == 'x').map(i, i.id)[0]",
            "\"x\"",
        ),
        ("size(event.data.items)", "\"2\""),
        ("event.data.items[0].tags == ['red', 'blue']", "\"true\""),
        ("'red' in event.data.items[0].tags", "\"true\""),
        ("'name' in event.data", "\"true\""),
        ("event.data.map(k, k)[0]", "\"a\""),
        ("event.data.a == {'b': {'c': 7}}", "\"true\""),
        ("has(event.data.name) && !has(event.data.no)", "\"true\""),
        (
            "['push', 'pull'].exists(w, event.headers['a'] == w)",
            "\"false\"",
        ),
        ("event.key + '-' + event.edge", "\"k-check.ok\""),
        ("event.headers['a']", "\"2\""),
        ("event.headers.b", "\"\u{fffd}\""),
        ("event.content_type", "\"application/json\""),
        (
            "event.data.name == null ? 'none' : event.data.name",
            "\"Ann\"",
        ),
        ("type(event.data.total) == int", "\"true\""),
        ("string(event.data.total) + 'x'", "\"1500x\""),
    ] {
        assert_eq!(eval(text, &json), expected, "{text}");
    }
    assert_eq!(eval("event.data", &event("text/plain", "hi")), "\"hi\"");
    assert_eq!(
        eval(
            "event.data.a",
            &event("application/cloudevents+json; charset=utf-8", "{\"a\":1}")
        ),
        "\"1\""
    );
    assert_eq!(eval("event.key == null", &Event::default()), "\"true\"");
}

#[test]
fn errors_on_an_event() {
    let json = event("application/json", DATA);
    for (text, expected) in [
        ("event.data.no", "! there is no field \"no\""),
        ("event.data.total / 0", "! division by zero"),
        (
            "event.data.name > 3",
            "! found no matching overload for '_>_' applied to '(string, int)'",
        ),
        ("event.data.items[9].id", "! the index is out of bounds"),
        (
            "event.data.items",
            "! the expression must give a string, bytes, a number, true, false or null, not list",
        ),
        (
            "9223372036854775807 + event.data.z",
            "! the result of \"add\" is out of range",
        ),
        ("int(event.data.name)", "! \"int\" failed on its argument"),
    ] {
        assert_eq!(eval(text, &json), expected, "{text}");
    }
    let broken = event("application/json", "{\"a\":");
    assert_eq!(
        eval("event.data.a", &broken),
        "! the event's data is not JSON: EOF while parsing a value at line 1 column 5"
    );
    // Data is not looked at where the expression does not name it.
    assert_eq!(eval("event.edge", &broken), "\"check.ok\"");
    let when = Expr::parse("event.data.total").unwrap();
    let got = when.eval_bool(&Scope::new(&json, "t")).unwrap_err();
    assert_eq!(
        got.to_string(),
        "the expression must give true or false, not int"
    );
}

#[test]
fn what_could_explode_is_refused() {
    let long = format!("'{}'", "x".repeat(EXPRESSION_BYTES_MAX));
    let doubled = (0..12).fold("'x'".to_owned(), |inner, _| {
        format!("[{inner}].map(x, x + x)[0]")
    });
    for (text, expected) in [
        (
            long.as_str(),
            "the expression has 4098 bytes; at most 4096 are allowed",
        ),
        (
            "event.data.l.all(a, event.data.l.all(b, true))",
            "a macro inside another loops over a part of its variable, such as \"a.items\"",
        ),
        (
            "event.data.l.map(a, a + event.data.s)",
            "inside a macro over the event, \"event\" may only be compared with == or !=",
        ),
        (
            "event.data.l.map(a, a.m.map(b, b + a.s))",
            "inside an inner macro, \"a\" may only be compared with == or !=",
        ),
        (
            "[1, 2].all(a, [1, 2].all(b, true))",
            "a macro loops over a path of the event, a filter of one, or an outermost list of literals",
        ),
        (
            doubled.as_str(),
            "a macro loops over a path of the event, a filter of one, or an outermost list of literals",
        ),
        (
            "event.data.l.map(a, [a]).all(b, true)",
            "a macro loops over a path of the event, a filter of one, or an outermost list of literals",
        ),
        (
            "event",
            "name a field of the event: event.data, event.key, event.headers, event.content_type, event.edge",
        ),
        (
            "event['data'].x == 1",
            "name a field of the event: event.data, event.key, event.headers, event.content_type, event.edge",
        ),
        (
            "has(event.key)",
            "every event has it; write event.key != null",
        ),
        (
            "event.data.matches('(a+)+')",
            "unknown function \"matches\"; there are size, contains, startsWith, endsWith, string, bytes, int, uint, double, bool, type, dyn and has, all, exists, exists_one, map, filter",
        ),
        ("google.protobuf.Any{}", "messages are not available here"),
    ] {
        let error = Expr::parse(text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let pluses = vec!["event.data.s"; 40].join(" + ");
    assert!(
        Expr::parse(&pluses)
            .unwrap_err()
            .to_string()
            .contains("more than 32")
    );
}

/// Nesting and chains of every kind, on a stack as small as a thread may have.
#[test]
fn deep_text_does_not_overflow_the_stack() {
    let bodies = [
        "(".repeat(2000),
        format!("{}1{}", "(".repeat(1000), ")".repeat(1000)),
        format!("{}1{}", "[".repeat(1000), "]".repeat(1000)),
        format!("event.data{}", ".a".repeat(1000)),
        format!("event.data{}", "[0]".repeat(1000)),
        vec!["1"; 1500].join("-"),
        vec!["true"; 600].join("&&"),
        vec!["true"; 600].join("||"),
        format!("{}true", "!".repeat(3000)),
        format!("{}1", "-".repeat(3000)),
        format!("{}1", "true?1:".repeat(500)),
        vec!["1"; 390].join("-"),
        format!("event.data{}", ".a".repeat(380)),
        format!("event.data{}", "[0]".repeat(380)),
        format!("{}1", "true?1:".repeat(300)),
        format!("{}1{}", "(".repeat(31), ")".repeat(31)),
        vec!["1"; 390].join("=="),
        vec!["true"; 700].join(" in "),
        format!("{}1", "true?1:".repeat(380)),
        format!("{}true", "! ".repeat(390)),
        format!("{}1", "- ".repeat(390)),
        format!("{{{}1}}", "1:{".repeat(300)),
    ];
    let small = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            for body in bodies {
                if let Ok(expr) = Expr::parse(&body) {
                    drop(expr.eval_key(&Scope::new(&Event::default(), "t")));
                }
            }
        });
    small.unwrap().join().unwrap();
}

#[test]
fn loops_end_when_the_fuel_does() {
    let list = format!("[{}]", vec!["1"; 3_000_000].join(","));
    let expr = Expr::parse("event.data.all(i, i + i + i + i + i + i > 0)").unwrap();
    let outcome = expr.eval_bool(&Scope::new(&event("application/json", &list), "t"));
    assert!(
        matches!(outcome, Err(ExprError::TooMuch { .. })),
        "{outcome:?}"
    );
}

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "event.data",
        "event.data.a",
        "event.key",
        "event.headers",
        ".a",
        "[0]",
        "['a']",
        " + ",
        " - ",
        " * ",
        " / ",
        " % ",
        " == ",
        " != ",
        " < ",
        " && ",
        " || ",
        "!",
        "-",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ":",
        " ? ",
        " : ",
        "1",
        "0",
        "9223372036854775807",
        "-9223372036854775808",
        "1u",
        "1.5",
        "1e308",
        "'a'",
        "b'\\xff'",
        "null",
        "true",
        "false",
        " in ",
        "size(",
        "int(",
        "uint(",
        "double(",
        "string(",
        "bytes(",
        "bool(",
        "type(",
        "has(",
        ".map(x, ",
        ".all(x, ",
        ".exists_one(x, ",
        ".filter(x, ",
        ".contains(",
        ".startsWith(",
        "x",
        "dyn(",
    ]);
    prop::collection::vec(pieces, 1..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Text made of CEL's own words, on events of many kinds: an outcome or an error, and twice the same one.
    #[test]
    fn evaluation_never_panics_and_repeats(text in text(), data in prop::sample::select(vec!["", "{}", "{\"a\":[1,{\"a\":\"x\"}]}", "[[0],1.5,null]", "\"s\"", "-1"]), json: bool) {
        if let Ok(expr) = Expr::parse(&text) {
            let event = event(if json { "application/json" } else { "text/plain" }, data);
            let scope = Scope::new(&event, "t");
            prop_assert_eq!(expr.eval_key(&scope), expr.eval_key(&scope));
            prop_assert_eq!(expr.eval_bool(&scope), expr.eval_bool(&scope));
        }
    }

    #[test]
    fn parsing_never_panics(text: String) {
        drop(Expr::parse(&text));
    }
}
