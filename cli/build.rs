//! Puts what `weir new` copies into the binary: the files that `sdk/templates/templates.toml` names, and no others, so that what a
//! build left beside them stays out. A file that is missing fails the build.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Templates {
    template: Vec<Template>,
}

#[derive(serde::Deserialize)]
struct Template {
    lang: String,
    files: Vec<String>,
    vendor: Vec<Vendor>,
}

#[derive(serde::Deserialize)]
struct Vendor {
    from: String,
    files: Vec<String>,
}

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    let sdk = Path::new(&manifest).join("../sdk");
    let list = sdk.join("templates/templates.toml");
    println!("cargo::rerun-if-changed={}", list.display());
    let text = std::fs::read_to_string(&list).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    let templates: Templates =
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    let mut names = BTreeSet::new();
    for template in templates.template {
        let of = |file: &String| format!("templates/{}/{file}", template.lang);
        names.extend(template.files.iter().map(of));
        for vendor in template.vendor {
            names.extend(
                vendor
                    .files
                    .iter()
                    .map(|file| format!("{}/{file}", vendor.from)),
            );
        }
    }
    let mut code = format!("const TEMPLATES: &str = include_str!({list:?});\n");
    code.push_str("static FILES: &[(&str, &[u8])] = &[\n");
    for name in names {
        let path = sdk.join(&name);
        writeln!(code, "    ({name:?}, include_bytes!({path:?})),").expect("a string takes it");
    }
    code.push_str("];\n");
    let written: PathBuf = Path::new(&out).join("sdk.rs");
    std::fs::write(&written, code).unwrap_or_else(|e| panic!("{}: {e}", written.display()));
}
