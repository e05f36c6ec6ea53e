//! What a module is and asks for, on components written as text.

use schemas::graph::{Step, parse};
use schemas::module::{ModuleProblem, check_grants, inspect};

/// The types of `weir:step@1.0.0`, as an imported instance; `{time}` stands for the type of `time-us`.
const TYPES: &str = r#"
  (import "weir:step/types@1.0.0" (instance $types
    (type (record (field "tenant" string) (field "graph" string) (field "version" string) (field "execution" string)
      (field "step" string) (field "attempt" u32) (field "time-us" {time})))
    (export "context" (type (eq 0)))
    (type (list u8)) (type (option 2)) (type (tuple string 2)) (type (list 4))
    (type (record (field "edge" string) (field "key" 3) (field "content-type" string) (field "headers" 5) (field "data" 2)))
    (export "event" (type (eq 6)))
    (type (option string))
    (type (record (field "port" string) (field "key" 3) (field "content-type" 8) (field "headers" 5) (field "data" 2)))
    (export "output" (type (eq 9)))
    (type (option u64)) (type (tuple 11 string))
    (type (variant (case "retry" 12) (case "reject" string) (case "fatal" string)))
    (export "failure" (type (eq 13)))
  ))
  (alias export $types "context" (type $context))
  (alias export $types "event" (type $event))
  (alias export $types "output" (type $output))
  (alias export $types "failure" (type $failure))
"#;

/// A component that exports `handle`; `imports` come first.
fn component(imports: &str, time: &str) -> Vec<u8> {
    let types = TYPES.replace("{time}", time);
    let flat = if time == "u64" { "i64" } else { "i32" };
    let params = format!("{} {flat} i32 i32", "i32 ".repeat(11));
    wat::parse_str(format!(
        r#"(component {imports} {types}
          (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "handle") (param {params}) (result i32) unreachable))
          (core instance $i (instantiate $m))
          (type $input (list $event)) (type $outputs (list $output)) (type $result (result $outputs (error $failure)))
          (func $handle (param "ctx" $context) (param "input" $input) (result $result)
            (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
          (export "handle" (func $handle)))"#
    ))
    .unwrap()
}

fn step(fields: &str) -> Step {
    let text = format!(
        "weir: 1\nname: a\ntriggers: {{t: {{manual: {{}}}}}}\nsteps: {{s: {{uses: x, from: [t], {fields}}}}}"
    );
    parse(&text, "g").unwrap().steps.remove(0)
}

const LOG: &str = r#"(import "weir:step/log@1.0.0" (instance
    (type (enum "debug" "info" "warn" "error")) (export "level" (type (eq 0)))
    (export "write" (func (param "level" 1) (param "message" string)))))"#;

#[test]
fn a_step_without_wishes() {
    let module = inspect(&component("", "u64")).unwrap();
    assert_eq!((module.log, module.http), (false, false));
    assert_eq!(module.imports, ["weir:step/types@1.0.0"]);
    assert_eq!(check_grants(&module, &step("")), Ok(()));
}

#[test]
fn what_is_asked_for_must_be_granted() {
    let http = r#"(import "wasi:http/outgoing-handler@0.2.3" (instance))"#;
    let clocks = r#"(import "wasi:clocks/monotonic-clock@0.2.6" (instance (export "now" (func (result u64)))))"#;
    let module = inspect(&component(&format!("{LOG}{http}{clocks}"), "u64")).unwrap();
    assert_eq!((module.log, module.http), (true, true));
    assert_eq!(
        check_grants(&module, &step("log: true, http: {allow: [a.example]}")),
        Ok(())
    );
    assert_eq!(
        check_grants(&module, &step("")).unwrap_err(),
        [
            "the module of step \"s\" imports weir:step/log, which is not granted; add \"log: true\" to step \"s\"",
            "the module of step \"s\" imports wasi:http, which is not granted; add \"http: { allow: [host.example] }\" to step \"s\"",
        ]
    );
}

#[test]
fn what_is_no_step() {
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(inspect(bytes).unwrap_err().to_string(), expected)
    };
    check(
        b"",
        "it is no WASM module at all: it does not begin with \"\\0asm\"",
    );
    check(
        b"#!/bin/sh\n",
        "it is no WASM module at all: it does not begin with \"\\0asm\"",
    );
    check(
        &wat::parse_str("(module)").unwrap(),
        "it is a core module, not a component; build it for wasm32-wasip2, or make it one with \"wasm-tools component new\"",
    );
    check(
        &wat::parse_str("(component)").unwrap(),
        "it is a component of another world: it does not export \"handle\" of weir:step@1.0.0; it exports nothing",
    );
    check(
        &wat::parse_str(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#)
            .unwrap(),
        "it is a component of another world: it does not export \"handle\" of weir:step@1.0.0; it exports \"wasi:cli/run@0.2.0\"",
    );
    check(
        &component("", "u32"),
        "the parameter \"ctx\" of the export \"handle\" is not that of weir:step@1.0.0: it is \"time-us: u32 }\", it should be \"time-us: u64 }\"; rebuild it against sdk/wit",
    );
    check(
        &component(r#"(import "weir:step/log@0.8.0" (instance))"#, "u64"),
        "it is built against weir:step@0.8.0, this is weir:step@1.0.0; rebuild it with that version of the SDK",
    );
    check(
        &component(
            r#"(import "weir:step/log@1.0.0" (instance (export "write" (func (param "level" u32) (param "message" string)))))"#,
            "u64",
        ),
        "the parameter \"level\" of \"write\" of weir:step/log is not that of weir:step@1.0.0: it is \"u32\", it should be \"enum { debug, info, warn, error }\"; rebuild it against sdk/wit",
    );
    for import in [
        "wasi:keyvalue/store@0.2.0",
        "wasi:io/streams@0.3.0",
        "acme:x/y@1.0.0",
        "weir:step/metrics@1.0.0",
    ] {
        let refused = inspect(&component(
            &format!(r#"(import "{import}" (instance))"#),
            "u64",
        ))
        .unwrap_err();
        let name = match import.starts_with("weir:") {
            true => import.trim_end_matches("@1.0.0"),
            false => import,
        };
        assert!(
            matches!(&refused, ModuleProblem::UnknownImports(names) if names == &[format!("\"{name}\"")]),
            "{refused}"
        );
    }
    let mut cut = component("", "u64");
    cut.truncate(cut.len() / 2);
    assert!(matches!(inspect(&cut), Err(ModuleProblem::Unreadable(_))));
}

/// One type that names another twice, sixty times over, would be spelled out with 2^60 words.
#[test]
fn types_that_would_explode_are_cut() {
    let mut types = "(type $t0 (tuple u8 u8))".to_owned();
    for i in 1..60 {
        types += &format!("(type $t{i} (tuple $t{0} $t{0}))", i - 1);
    }
    let bytes = wat::parse_str(format!(
        r#"(component {types} (core module $m (func (export "f") (param i32)) (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)) (core instance $i (instantiate $m))
          (func $f (param "ctx" $t3) (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
          (export "handle" (func $f)))"#
    ));
    // Whether the tools take such types at all is theirs to say.
    if let Ok(bytes) = bytes {
        assert!(inspect(&bytes).is_err());
    }
}
