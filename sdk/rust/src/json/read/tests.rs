//! The reader held against `serde_json`'s: every shape, and texts to which anything was done.

#![expect(dead_code, reason = "what is read is compared as `Debug` shows it")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde_json::Value;

/// As `serde_json` reads it, or refused in its words.
fn same<'a, T: Deserialize<'a> + Debug>(text: &'a str) {
    let (ours, theirs) = (super::read::<T>(text), serde_json::from_str::<T>(text));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{text}");
}

#[derive(Debug, Deserialize)]
enum Kind {
    Unit,
    One(u8),
    Two(i64, Option<char>),
    Named { a: f64 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u32),
    Text(String),
    Order { id: u8 },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    A { x: u8 },
    B { y: String },
}

#[derive(Debug, Deserialize)]
struct Wrapped(String);

#[derive(Debug, Deserialize)]
struct Nothing;

#[derive(Debug, Deserialize)]
struct All<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default)]
    plain: &'a str,
    #[serde(default)]
    numbers: (u8, i8, u16, i16, u32, i32, u64, i64, u128, i128),
    #[serde(default)]
    floats: Vec<f64>,
    #[serde(default)]
    single: f32,
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default)]
    either: Vec<Either>,
    #[serde(default)]
    tagged: Vec<Tagged>,
    none: Option<u8>,
    #[serde(default)]
    unit: Option<((), Nothing, Wrapped)>,
    #[serde(default)]
    keys: BTreeMap<i8, bool>,
    #[serde(default)]
    rest: BTreeMap<Cow<'a, str>, Box<Value>>,
}

const TEXTS: [&str; 6] = [
    r#"{"text":"a","plain":"bö","numbers":[1,-2,3,-4,5,-6,18446744073709551615,-9223372036854775808,340282366920938463463374607431768211455,-1],
    "floats":[0,-0,0.5,-1e10,1E-7,123456789012345678,1234567890123456789,99999999999999999999,5e-324],"single":0.1,"none":null}"#,
    r#" { "text" : "a \"quoted\" \\ \/ \b\f\n\r\t \u00e9 \ud83d\ude00" , "kinds" : [ "Unit", {"One":1}, {"Two":[2,"x"]}, {"Two":[2,null]},
    {"Named":{"a":2}}, {"Unit":null} ] , "none" : 7 , "unit" : [ null , null , "w" ] , "more" : [true,false,{"x":[[],{}]}] }"#,
    r#"{"text":"t","either":[1,"x",{"id":5}],"tagged":[{"type":"A","x":1},{"y":"s","type":"B"}],"keys":{"1":true,"-7":false}}"#,
    r#"{"text":"t","rest":{"a":{"b":[1,2.5,"c",null,true]},"\u0061b":-0.0,"":[]}}"#,
    r#"["a",1,-1,0,1.5,"\\",{"k":"v"},[[[[]]]],null,true,false]"#,
    r#"{"text":"twice","text":"twice"}"#,
];

#[test]
fn every_shape_as_serde_json_reads_it() {
    for text in TEXTS {
        same::<All<'_>>(text);
        same::<Value>(text);
        same::<Vec<Value>>(text);
        same::<BTreeMap<&str, Value>>(text);
    }
    for text in [
        "",
        " ",
        "1",
        "-",
        "-1",
        "01",
        "-01",
        "-0",
        "0",
        "1.",
        ".5",
        "1e",
        "1e5",
        "1e999",
        "+1",
        "1 ",
        "1x",
        "tru",
        "true",
        "truex",
        "nul",
        "null",
        "\"",
        "\"a",
        "\"a\"",
        "\"a\\",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"\u{1}\"",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[]",
        "[1 2]",
        "{",
        "{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{1:2}",
        "[1]]",
        "\u{feff}1",
        "128",
        "256",
        "-129",
        "4294967296",
        "999999999999999999",
        "9999999999999999999",
        "99999999999999999999",
        "-999999999999999999",
        "-9999999999999999999",
        "\"Unit\"",
        "\"One\"",
        "\"None\"",
        "{\"Unit\":null}",
        "{\"One\":1,\"Two\":2}",
    ] {
        same::<Value>(text);
        same::<i8>(text);
        same::<u64>(text);
        same::<i64>(text);
        same::<i128>(text);
        same::<f64>(text);
        same::<f32>(text);
        same::<bool>(text);
        same::<()>(text);
        same::<Nothing>(text);
        same::<String>(text);
        same::<&str>(text);
        same::<char>(text);
        same::<Option<u8>>(text);
        same::<(u8, u8)>(text);
        same::<Vec<u8>>(text);
        same::<Kind>(text);
        same::<Either>(text);
        same::<Wrapped>(text);
        same::<BTreeMap<String, u8>>(text);
        same::<BTreeMap<u8, u8>>(text);
        same::<serde::de::IgnoredAny>(text);
    }
}

#[test]
fn as_deep_as_serde_json_goes() {
    for depth in [1, 126, 127, 128, 129, 10_000] {
        same::<Value>(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        same::<Value>(&format!(
            "{}1{}",
            "{\"a\":".repeat(depth),
            "}".repeat(depth)
        ));
        same::<serde::de::IgnoredAny>(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    }
}

#[test]
fn whatever_is_done_to_a_text() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    const BYTES: &[u8] = b"\"\\{}[],: \n0123456789-+.eEtfnu/ax\x01\x7f\xc3";
    for n in 0..60_000 {
        let mut bytes = TEXTS[n % TEXTS.len()].as_bytes().to_vec();
        for _ in 0..=below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = below(bytes.len());
            let byte = BYTES[below(BYTES.len())];
            match below(4) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            same::<All<'_>>(text);
            same::<Value>(text);
        }
    }
}
