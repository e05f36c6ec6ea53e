//! The inspection of a step module: is it a component of our world, and what does it ask for. Reads types only, with
//! wit-parser; whether the code itself is valid shows when the processor compiles it.
//!
//! The oracle is `sdk/wit/step.wit`: `handle` and what is imported of `weir:step` must have exactly its types.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{
    Function, FunctionKind, Handle, InterfaceId, PackageName, Resolve, Type, TypeDefKind, World,
    WorldItem, WorldKey,
};

use crate::graph::Step;

/// The world that steps are built against.
pub const STEP_WIT: &str = include_str!("../../sdk/wit/step.wit");

const LOG: &str = "weir:step/log";
/// The WASI 0.2 packages that are linked for every step.
const LINKED: [&str; 6] = ["cli", "io", "clocks", "random", "filesystem", "sockets"];
/// A described type is cut here; ours have less than a tenth.
const DESCRIPTION_BYTES_MAX: usize = 16 << 10;

/// What a module asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ModuleInterface {
    /// It imports `weir:step/log`, which `log: true` grants.
    pub log: bool,
    /// It imports something of `wasi:http`, which `http: { allow: […] }` grants.
    pub http: bool,
    /// It imports `weir:step/secrets`, which `secrets: […]` grants.
    pub secrets: bool,
    /// Every interface it imports, such as `wasi:clocks/monotonic-clock@0.2.6`, sorted.
    pub imports: Vec<String>,
}

impl ModuleInterface {
    /// What its graph has to grant, in the words of the graph file.
    pub fn asks(&self) -> Vec<&'static str> {
        let asked = [
            (self.log, "log"),
            (self.secrets, "secrets"),
            (self.http, "http"),
        ];
        asked
            .iter()
            .filter(|(asks, _)| *asks)
            .map(|(_, word)| *word)
            .collect()
    }
}

/// Why a module cannot be a step. The messages name the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleProblem {
    #[error("it is no WASM module at all: it does not begin with \"\\0asm\"")]
    NotWasm,
    #[error(
        "it is a core module, not a component; build it for wasm32-wasip2, or make it one with \"wasm-tools component new\""
    )]
    CoreModule,
    #[error("it is a WIT package, not a component")]
    WitPackage,
    #[error("it is damaged or of an unknown kind: {0}")]
    Unreadable(String),
    #[error("it is a component of another world: it does not export \"handle\" of weir:step@{version}; it exports {found}", version = *VERSION)]
    OtherWorld { found: String },
    #[error("it is built against weir:step@{found}, this is weir:step@{wanted}; rebuild it with that version of the SDK", wanted = *VERSION)]
    OtherVersion { found: String },
    #[error("{what} is not that of weir:step@{version}: it is \"{found}\", it should be \"{wanted}\"; rebuild it against sdk/wit", version = *VERSION)]
    OtherTypes {
        what: String,
        found: String,
        wanted: String,
    },
    #[error("it imports {}, which Weir does not offer; there are WASI 0.2 (cli, io, clocks, random, filesystem, sockets), wasi:http and weir:step/log, settings and secrets", .0.join(", "))]
    UnknownImports(Vec<String>),
}

/// The oracle, read once.
static OURS: LazyLock<Oracle> = LazyLock::new(Oracle::read);
static VERSION: LazyLock<&'static str> = LazyLock::new(|| OURS.version.as_str());

struct Oracle {
    version: String,
    handle: Signature,
    /// Functions of the interfaces that steps may import, such as `log` → `write`.
    interfaces: BTreeMap<String, BTreeMap<String, Signature>>,
}

/// Says what a module asks for, or why it cannot be a step.
pub fn inspect(bytes: &[u8]) -> Result<ModuleInterface, ModuleProblem> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => return Err(ModuleProblem::CoreModule),
        (Some(b"\0asm"), Some(_)) => {}
        _ => return Err(ModuleProblem::NotWasm),
    }
    match decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => {
            inspect_world(&resolve, &resolve.worlds[world])
        }
        Ok(DecodedWasm::WitPackage(..)) => Err(ModuleProblem::WitPackage),
        Err(error) => Err(ModuleProblem::Unreadable(
            error.to_string().chars().take(300).collect(),
        )),
    }
}

/// Is everything granted that the module asks for? If not: what is missing and the line to add, one message each.
pub fn check_grants(module: &ModuleInterface, step: &Step) -> Result<(), Vec<String>> {
    let mut missing = Vec::new();
    if module.log && !step.log {
        missing.push(format!("the module of step \"{0}\" imports {LOG}, which is not granted; add \"log: true\" to step \"{0}\"", step.name));
    }
    if module.secrets && step.secrets.is_empty() {
        missing.push(format!("the module of step \"{0}\" imports weir:step/secrets, which is not granted; add \"secrets: [NAME]\" to step \"{0}\"", step.name));
    }
    if module.http && step.http_allow.is_empty() {
        let line = "http: { allow: [host.example] }";
        missing.push(format!("the module of step \"{0}\" imports wasi:http, which is not granted; add \"{line}\" to step \"{0}\"", step.name));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

fn inspect_world(resolve: &Resolve, world: &World) -> Result<ModuleInterface, ModuleProblem> {
    let mut module = ModuleInterface::default();
    let mut unknown = Vec::new();
    for (key, item) in &world.imports {
        let name = resolve.name_world_key(key);
        let WorldItem::Interface { id, .. } = item else {
            if matches!(item, WorldItem::Function(_)) {
                unknown.push(format!("the function \"{name}\""));
            }
            continue;
        };
        match package_of(resolve, *id) {
            Some(package) if package.namespace == "weir" && package.name == "step" => {
                own_import(resolve, *id, package, &mut unknown)?;
                let name = resolve.interfaces[*id].name.as_deref();
                module.log |= name == Some("log");
                module.secrets |= name == Some("secrets");
            }
            Some(package) if is_wasi_02(package) && package.name == "http" => module.http = true,
            Some(package) if is_wasi_02(package) && LINKED.contains(&package.name.as_str()) => {}
            _ => unknown.push(format!("\"{name}\"")),
        }
        module.imports.push(name);
    }
    check_handle(resolve, world)?;
    if !unknown.is_empty() {
        return Err(ModuleProblem::UnknownImports(unknown));
    }
    module.imports.sort();
    Ok(module)
}

fn package_of(resolve: &Resolve, interface: InterfaceId) -> Option<&PackageName> {
    let interface = &resolve.interfaces[interface];
    interface.name.as_ref()?;
    Some(&resolve.packages[interface.package?].name)
}

fn is_wasi_02(package: &PackageName) -> bool {
    package.namespace == "wasi"
        && package
            .version
            .as_ref()
            .is_some_and(|version| version.major == 0 && version.minor == 2)
}

/// An import of `weir:step`: of our version, an interface that we have, its functions as ours.
fn own_import(
    resolve: &Resolve,
    id: InterfaceId,
    package: &PackageName,
    unknown: &mut Vec<String>,
) -> Result<(), ModuleProblem> {
    let found = package
        .version
        .as_ref()
        .map_or_else(|| "no version".to_owned(), ToString::to_string);
    if found != OURS.version {
        return Err(ModuleProblem::OtherVersion { found });
    }
    let interface = &resolve.interfaces[id];
    let name = interface.name.as_deref().unwrap_or_default();
    let Some(ours) = OURS.interfaces.get(name) else {
        unknown.push(format!("\"weir:step/{name}\""));
        return Ok(());
    };
    for (function, theirs) in &interface.functions {
        let Some(ours) = ours.get(function) else {
            unknown.push(format!("\"{function}\" of \"weir:step/{name}\""));
            continue;
        };
        Signature::of(resolve, theirs)
            .must_be(ours, &format!("\"{function}\" of weir:step/{name}"))?;
    }
    Ok(())
}

fn check_handle(resolve: &Resolve, world: &World) -> Result<(), ModuleProblem> {
    match world.exports.get(&WorldKey::Name("handle".to_owned())) {
        Some(WorldItem::Function(handle)) => {
            Signature::of(resolve, handle).must_be(&OURS.handle, "the export \"handle\"")
        }
        _ => {
            let names: Vec<String> = world
                .exports
                .keys()
                .take(8)
                .map(|key| format!("\"{}\"", resolve.name_world_key(key)))
                .collect();
            let found = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            };
            Err(ModuleProblem::OtherWorld { found })
        }
    }
}

/// A function's parameters and result, each with its type spelled out.
struct Signature(Vec<(String, String)>);

impl Signature {
    fn of(resolve: &Resolve, function: &Function) -> Self {
        let kind = match function.kind {
            FunctionKind::Freestanding => "func",
            FunctionKind::AsyncFreestanding => "async func",
            _ => "method",
        };
        let mut parts = vec![("kind".to_owned(), kind.to_owned())];
        let params = function.params.iter().map(|param| {
            (
                format!("parameter \"{}\"", param.name),
                spelled(resolve, &param.ty),
            )
        });
        parts.extend(params);
        let result = function
            .result
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), |result| spelled(resolve, result));
        parts.push(("result".to_owned(), result));
        Self(parts)
    }

    /// Names the first part that differs.
    fn must_be(&self, ours: &Signature, what: &str) -> Result<(), ModuleProblem> {
        let absent = ("an end".to_owned(), "nothing more".to_owned());
        for at in 0..self.0.len().max(ours.0.len()) {
            let (theirs, ours) = (
                self.0.get(at).unwrap_or(&absent),
                ours.0.get(at).unwrap_or(&absent),
            );
            if theirs == ours {
                continue;
            }
            let (what, found, wanted) = if theirs.0 == ours.0 {
                let (found, wanted) = around_difference(&theirs.1, &ours.1);
                (format!("the {} of {what}", ours.0), found, wanted)
            } else {
                (
                    format!("the parameters of {what}"),
                    theirs.0.replace('"', "'"),
                    ours.0.replace('"', "'"),
                )
            };
            return Err(ModuleProblem::OtherTypes {
                what,
                found,
                wanted,
            });
        }
        Ok(())
    }
}

/// Both texts from the last word before they differ; types are long.
fn around_difference(a: &str, b: &str) -> (String, String) {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let start = a
        .chars()
        .take(same)
        .collect::<Vec<_>>()
        .iter()
        .rposition(|c| "{,(<".contains(*c))
        .map_or(0, |at| at + 1);
    let part = |text: &str| {
        text.chars()
            .skip(start)
            .take(80)
            .collect::<String>()
            .trim()
            .to_owned()
    };
    (part(a), part(b))
}

fn spelled(resolve: &Resolve, ty: &Type) -> String {
    let mut out = String::new();
    spell(resolve, ty, &mut out);
    out
}

/// The type's structure, as the component model compares it: names of fields and cases count, names of types do not.
fn spell(resolve: &Resolve, ty: &Type, out: &mut String) {
    // A type may name another many times over; nothing of ours is near this long.
    if out.len() > DESCRIPTION_BYTES_MAX {
        return;
    }
    let Type::Id(id) = ty else {
        out.push_str(&format!("{ty:?}").to_lowercase());
        return;
    };
    let option = |ty: &Option<Type>, out: &mut String| match ty {
        Some(ty) => spell(resolve, ty, out),
        None => out.push('_'),
    };
    match &resolve.types[*id].kind {
        TypeDefKind::Type(of) => spell(resolve, of, out),
        TypeDefKind::Record(record) => {
            let fields = record
                .fields
                .iter()
                .map(|field| (field.name.as_str(), Some(&field.ty)));
            spell_named(resolve, "record", fields, out);
        }
        TypeDefKind::Variant(variant) => {
            spell_named(
                resolve,
                "variant",
                variant
                    .cases
                    .iter()
                    .map(|case| (case.name.as_str(), case.ty.as_ref())),
                out,
            );
        }
        TypeDefKind::Enum(cases) => spell_named(
            resolve,
            "enum",
            cases.cases.iter().map(|case| (case.name.as_str(), None)),
            out,
        ),
        TypeDefKind::Flags(flags) => spell_named(
            resolve,
            "flags",
            flags.flags.iter().map(|flag| (flag.name.as_str(), None)),
            out,
        ),
        TypeDefKind::Tuple(tuple) => {
            out.push_str("tuple<");
            for (i, ty) in tuple.types.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                spell(resolve, ty, out);
            }
            out.push('>');
        }
        TypeDefKind::Option(of) => wrap("option", out, |out| spell(resolve, of, out)),
        TypeDefKind::List(of) => wrap("list", out, |out| spell(resolve, of, out)),
        TypeDefKind::Result(result) => wrap("result", out, |out| {
            option(&result.ok, out);
            out.push_str(", ");
            option(&result.err, out);
        }),
        TypeDefKind::Handle(Handle::Own(_)) => out.push_str("own resource"),
        TypeDefKind::Handle(Handle::Borrow(_)) => out.push_str("borrowed resource"),
        TypeDefKind::Resource => out.push_str("resource"),
        TypeDefKind::Map(..) => out.push_str("map"),
        TypeDefKind::FixedLengthList(..) => out.push_str("list of fixed length"),
        TypeDefKind::Future(_) => out.push_str("future"),
        TypeDefKind::Stream(_) => out.push_str("stream"),
        TypeDefKind::Unknown => out.push_str("unknown"),
    }
}

fn wrap(name: &str, out: &mut String, inner: impl FnOnce(&mut String)) {
    out.push_str(name);
    out.push('<');
    inner(out);
    out.push('>');
}

fn spell_named<'a>(
    resolve: &Resolve,
    kind: &str,
    members: impl Iterator<Item = (&'a str, Option<&'a Type>)>,
    out: &mut String,
) {
    out.push_str(kind);
    out.push_str(" { ");
    for (i, (name, ty)) in members.enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        out.push_str(name);
        if let Some(ty) = ty {
            out.push_str(": ");
            spell(resolve, ty, out);
        }
    }
    out.push_str(" }");
}

impl Oracle {
    fn read() -> Self {
        let mut resolve = Resolve::default();
        let package = resolve
            .push_source("step.wit", STEP_WIT)
            .expect("step.wit is part of this crate and tested");
        let package = &resolve.packages[package];
        let world = &resolve.worlds[package.worlds["step"]];
        let Some(WorldItem::Function(handle)) =
            world.exports.get(&WorldKey::Name("handle".to_owned()))
        else {
            unreachable!("step.wit exports handle; tested");
        };
        let functions = |id: &InterfaceId| {
            let functions = resolve.interfaces[*id].functions.iter();
            functions
                .map(|(name, function)| (name.clone(), Signature::of(&resolve, function)))
                .collect()
        };
        Self {
            version: package
                .name
                .version
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            handle: Signature::of(&resolve, handle),
            interfaces: package
                .interfaces
                .iter()
                .map(|(name, id)| (name.clone(), functions(id)))
                .collect(),
        }
    }
}
