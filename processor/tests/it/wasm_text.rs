//! Steps written by hand, for what no toolchain would produce.

/// A step whose memory has 64 pages, with these further items in its core module and this body of `handle` (results: the address
/// of a `result<list<output>, failure>`; zeroed memory is an empty list of outputs).
pub(crate) fn component(items: &str, handle: &str) -> Vec<u8> {
    // Every allocation at the same place: what the host writes does not matter here.
    component_with_realloc(items, handle, "(i32.const 8192)")
}

pub(crate) fn component_with_realloc(items: &str, handle: &str, realloc: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (type $types (instance
                (type $c (record (field "tenant" string) (field "graph" string) (field "version" string) (field "execution" string)
                    (field "step" string) (field "attempt" u32) (field "time-us" u64)))
                (export "context" (type (eq $c)))
                (type $e (record (field "edge" string) (field "key" (option (list u8))) (field "content-type" string)
                    (field "headers" (list (tuple string (list u8)))) (field "data" (list u8))))
                (export "event" (type (eq $e)))
                (type $o (record (field "port" string) (field "key" (option (list u8))) (field "content-type" (option string))
                    (field "headers" (list (tuple string (list u8)))) (field "data" (list u8))))
                (export "output" (type (eq $o)))
                (type $f (variant (case "retry" (tuple (option u64) string)) (case "reject" string) (case "fatal" string)))
                (export "failure" (type (eq $f)))))
            (import "weir:step/types@1.0.0" (instance $i (type $types)))
            (alias export $i "context" (type $context))
            (alias export $i "event" (type $event))
            (alias export $i "output" (type $output))
            (alias export $i "failure" (type $failure))
            (core module $m
                (memory (export "memory") 64)
                {items}
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) {handle}))
            (core instance $c (instantiate $m))
            (func $handle (param "ctx" $context) (param "input" (list $event)) (result (result (list $output) (error $failure)))
                (canon lift (core func $c "handle") (memory (core memory $c "memory")) (realloc (core func $c "realloc"))))
            (export "handle" (func $handle)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Instructions that write an output with this port and data (address, length), no key and no headers.
pub(crate) fn output_at(at: u32, port: (u32, u32), data: (u32, u32)) -> String {
    let store = |offset: u32, value: u32| {
        format!(
            "(i32.store (i32.const {}) (i32.const {}))",
            at + offset,
            value as i32
        )
    };
    [
        store(0, port.0),
        store(4, port.1),
        store(40, data.0),
        store(44, data.1),
    ]
    .join(" ")
}
