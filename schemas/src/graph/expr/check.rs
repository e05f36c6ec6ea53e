//! What an expression may say, so that one evaluation is bounded, and what of the event it needs.
//!
//! CEL has no recursion and no unbounded loop, but its macros nest: `l.all(a, l.all(b, l.all(c, …)))` takes the cube of the
//! size of `l`, and `[[[s].map(x, x + x)[0]].map(x, x + x)[0]]…` doubles a string per level. So:
//! - at most 4 KiB, 64 levels deep, 16 macros and 32 `+`;
//! - a macro loops over a path of the event, a `filter` of one, or a list of literals (the last outermost only);
//! - a macro inside another loops over a part of the outer one's variable;
//! - inside such a loop, the event and outer variables may only be compared with `==` and `!=`.
//!
//! What remains takes time and memory of at most the expression's size times the event's.

use std::collections::BTreeMap;

use cel::Env;
use cel::common::ast::{
    ComprehensionExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::{EXPRESSION_BYTES_MAX, ExprError};

const DEPTH_MAX: usize = 64;
const MACROS_MAX: usize = 16;
const PLUS_MAX: usize = 32;
/// Nodes visited in loops by one evaluation, about half a second of work.
const NODE_VISITS_MAX: u64 = 8_000_000;

const FIELDS: [&str; 5] = ["data", "key", "headers", "content_type", "edge"];
const TYPES: [&str; 10] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
];
const FUNCTIONS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "bytes",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    "dyn",
];
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];

/// What of the event an expression reads.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) data: Option<Paths>,
    pub(super) headers: bool,
    /// Loop steps that one evaluation may take.
    pub(super) steps: u64,
}

/// Which parts of a JSON value are read.
#[derive(Debug)]
pub(super) enum Paths {
    All,
    Only(BTreeMap<String, Paths>),
}

impl Paths {
    pub(super) fn below(&self, name: &str) -> Option<&Paths> {
        match self {
            Paths::All => Some(self),
            Paths::Only(fields) => fields.get(name),
        }
    }

    fn add(&mut self, path: &[&str]) {
        match (&mut *self, path) {
            (Paths::All, _) => {}
            (_, []) => *self = Paths::All,
            (Paths::Only(fields), [first, rest @ ..]) => {
                fields
                    .entry((*first).to_owned())
                    .or_insert_with(|| Paths::Only(BTreeMap::new()))
                    .add(rest);
            }
        }
    }
}

pub(super) fn compile(env: &Env, text: &str) -> Result<(IdedExpr, Needs), ExprError> {
    let whole = |message: String| ExprError::Invalid {
        message,
        offset: 0,
        len: text.len(),
    };
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(whole(format!(
            "the expression has {} bytes; at most {EXPRESSION_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Err(whole("the expression is empty".to_owned()));
    }
    guard_nesting(text)?;
    let (ast, source) = env
        .parser()
        .max_recursion_depth(48)
        .parse_with_source_info(text)
        .map_err(|errors| syntax(text, &errors))?;
    let mut check = Check {
        source: &source,
        text,
        needs: Needs::default(),
        nodes: 0,
        macros: 0,
        pluses: 0,
    };
    check.walk(
        &ast,
        &Place {
            depth: 0,
            loops: &[],
        },
    )?;
    let mut needs = check.needs;
    needs.steps = NODE_VISITS_MAX / check.nodes.max(1);
    Ok((ast, needs))
}

/// The parser recurses with the text's nesting and chains; what would be too deep for it is refused before.
fn guard_nesting(text: &str) -> Result<(), ExprError> {
    let mut depth = 0usize;
    let mut chain = 0usize;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (offset, c) in text.char_indices() {
        if let Some(end) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == end => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if matches!(
            c,
            '(' | '[' | '{' | '.' | '+' | '-' | '*' | '/' | '%' | '!' | '?' | '<' | '>' | '='
        ) {
            chain += 1;
        }
        if depth > 32 || chain > 400 {
            let what = if depth > 32 {
                "nests deeper than 32 brackets"
            } else {
                "has more than 400 operators"
            };
            return Err(ExprError::Invalid {
                message: format!("the expression {what}"),
                offset,
                len: 1,
            });
        }
    }
    Ok(())
}

fn syntax(text: &str, errors: &cel::ParseErrors) -> ExprError {
    let Some(first) = errors.errors.first() else {
        return ExprError::Invalid {
            message: "this is not an expression".to_owned(),
            offset: 0,
            len: text.len(),
        };
    };
    let (line, column) = (
        usize::try_from(first.pos.0).unwrap_or(1),
        usize::try_from(first.pos.1).unwrap_or(1),
    );
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let in_line = text[start..]
        .char_indices()
        .nth(column.saturating_sub(1))
        .map_or(text.len() - start, |(at, _)| at);
    let message = first
        .msg
        .trim_start_matches("Syntax error: ")
        .trim()
        .replace('\n', " ");
    let message = message.split(" expecting {").next().unwrap_or_default();
    let message: String = message.chars().take(200).collect();
    ExprError::Invalid {
        message: format!(
            "not an expression: {message}; CEL is expected, such as event.data.total > 1000"
        ),
        offset: start + in_line,
        len: 1,
    }
}

/// A loop that the walk is inside of.
struct Loop<'e> {
    variable: &'e str,
    /// Over a list of literals: few and small steps.
    literal: bool,
}

struct Place<'a, 'e> {
    depth: usize,
    loops: &'a [&'a Loop<'e>],
}

struct Check<'s> {
    source: &'s SourceInfo,
    text: &'s str,
    needs: Needs,
    nodes: u64,
    macros: usize,
    pluses: usize,
}

type Checked = Result<(), ExprError>;

impl<'s> Check<'s> {
    fn walk(&mut self, expr: &IdedExpr, place: &Place<'_, '_>) -> Checked {
        self.nodes += 1;
        if place.depth > DEPTH_MAX {
            return self.refuse(
                expr,
                format!("the expression nests deeper than {DEPTH_MAX} levels"),
            );
        }
        let below = Place {
            depth: place.depth + 1,
            ..*place
        };
        match &expr.expr {
            Ast::Literal(_) => Ok(()),
            Ast::Ident(_) => self.path(expr, place, false),
            Ast::Select(select) => {
                if select.test
                    && matches!(&select.operand.expr, Ast::Ident(root) if root == "event")
                {
                    return self.refuse(
                        expr,
                        format!("every event has it; write event.{} != null", select.field),
                    );
                }
                if path_of(expr).is_some() {
                    return self.path(expr, place, false);
                }
                self.walk(&select.operand, &below)
            }
            Ast::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.walk(element, &below)),
            Ast::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.walk(&entry.key, &below)?;
                    self.walk(&entry.value, &below)
                }
                EntryExpr::StructField(_) => self.refuse(expr, "messages are not available here"),
            }),
            Ast::Call(call) => {
                if path_of(expr).is_some() {
                    self.path(expr, place, false)?;
                    // An index may itself be an expression.
                    return self.indices(expr, &below);
                }
                self.call(expr, call, place)
            }
            Ast::Comprehension(comprehension) => self.comprehension(expr, comprehension, &below),
            Ast::Struct(_) => self.refuse(expr, "messages are not available here"),
            Ast::Unspecified => self.refuse(expr, "this is not an expression"),
        }
    }

    fn call(
        &mut self,
        expr: &IdedExpr,
        call: &cel::common::ast::CallExpr,
        place: &Place<'_, '_>,
    ) -> Checked {
        let below = Place {
            depth: place.depth + 1,
            ..*place
        };
        let name = call.func_name.as_str();
        let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !operator && !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.iter().chain(&MACROS).copied();
            let hint = match super::super::names::closest(name, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "there are {} and {}",
                    FUNCTIONS.join(", "),
                    MACROS.join(", ")
                ),
            };
            return self.refuse(expr, format!("unknown function \"{name}\"; {hint}"));
        }
        if name == operators::ADD {
            self.pluses += 1;
            if self.pluses > PLUS_MAX {
                return self.refuse(
                    expr,
                    format!("the expression has more than {PLUS_MAX} \"+\""),
                );
            }
        }
        let comparison = name == operators::EQUALS || name == operators::NOT_EQUALS;
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            if comparison && path_of(part).is_some() {
                self.path(part, &below, true)?;
                self.indices(part, &below)?;
            } else {
                self.walk(part, &below)?;
            }
        }
        Ok(())
    }

    fn comprehension(
        &mut self,
        expr: &IdedExpr,
        c: &ComprehensionExpr,
        place: &Place<'_, '_>,
    ) -> Checked {
        self.macros += 1;
        if self.macros > MACROS_MAX {
            return self.refuse(
                expr,
                format!("the expression has more than {MACROS_MAX} macros"),
            );
        }
        if c.iter_var == "event" || c.iter_var2.is_some() {
            return self.refuse(
                expr,
                "a macro has one variable, and it is not called \"event\"",
            );
        }
        let literal = self.range(&c.iter_range, place)?;
        self.walk(&c.iter_range, place)?;
        let inner = Loop {
            variable: &c.iter_var,
            literal,
        };
        let mut loops = place.loops.to_vec();
        loops.push(&inner);
        let body = Place {
            depth: place.depth,
            loops: &loops,
        };
        self.walk(&c.accu_init, &body)?;
        self.walk(&c.loop_cond, &body)?;
        self.walk(&c.loop_step, &body)?;
        self.walk(&c.result, &body)
    }

    /// Is this something to loop over? True: a list of literals.
    fn range(&mut self, range: &IdedExpr, place: &Place<'_, '_>) -> Result<bool, ExprError> {
        let innermost = place.loops.last().filter(|inner| !inner.literal);
        if let Some(inner) = innermost {
            return match path_of(range) {
                Some(path) if path.root == inner.variable => Ok(false),
                _ => Err(self.refusal(range, format!("a macro inside another loops over a part of its variable, such as \"{}.items\"", inner.variable))),
            };
        }
        match &range.expr {
            Ast::List(list) if place.loops.is_empty() && list.elements.iter().all(is_literal) => Ok(true),
            Ast::Comprehension(c) if is_filter(c) => Ok(false),
            _ if path_of(range).is_some() => Ok(false),
            _ => Err(self.refusal(range, "a macro loops over a path of the event, a filter of one, or an outermost list of literals")),
        }
    }

    /// A name, or fields and elements of one.
    fn path(&mut self, expr: &IdedExpr, place: &Place<'_, '_>, compared: bool) -> Checked {
        let Some(path) = path_of(expr) else {
            return Ok(());
        };
        let over_event = place.loops.iter().any(|outer| !outer.literal);
        let innermost = place.loops.last().map(|inner| inner.variable);
        if let Some(outer) = place
            .loops
            .iter()
            .rev()
            .find(|outer| outer.variable == path.root)
        {
            let far = innermost != Some(path.root) && !outer.literal;
            return if far && !compared {
                self.refuse(
                    expr,
                    format!(
                        "inside an inner macro, \"{}\" may only be compared with == or !=",
                        path.root
                    ),
                )
            } else {
                Ok(())
            };
        }
        if path.root == "@result" || (path.fields.is_empty() && TYPES.contains(&path.root)) {
            return Ok(());
        }
        if path.root != "event" {
            return self.refuse(
                expr,
                format!(
                    "unknown name \"{}\"; there is only \"event\", such as event.data",
                    path.root
                ),
            );
        }
        let Some(field) = path.fields.first() else {
            return self.refuse(
                expr,
                format!(
                    "name a field of the event: event.{}",
                    FIELDS.join(", event.")
                ),
            );
        };
        if !FIELDS.contains(field) {
            let near = super::super::names::closest(field, FIELDS)
                .map(|near| format!("; did you mean \"event.{near}\"?"));
            let hint =
                near.unwrap_or_else(|| format!("; there are event.{}", FIELDS.join(", event.")));
            return self.refuse(expr, format!("an event has no \"{field}\"{hint}"));
        }
        if over_event && !compared {
            return self.refuse(
                expr,
                "inside a macro over the event, \"event\" may only be compared with == or !=",
            );
        }
        match *field {
            "headers" => self.needs.headers = true,
            "data" => self
                .needs
                .data
                .get_or_insert_with(|| Paths::Only(BTreeMap::new()))
                .add(&path.fields[1..]),
            _ => {}
        }
        Ok(())
    }

    /// The expressions inside the brackets of a path.
    fn indices(&mut self, expr: &IdedExpr, place: &Place<'_, '_>) -> Checked {
        match &expr.expr {
            Ast::Select(select) => self.indices(&select.operand, place),
            Ast::Call(call) if call.func_name == operators::INDEX => {
                if let [of, index] = &call.args[..] {
                    self.walk(index, place)?;
                    self.indices(of, place)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, at: &IdedExpr, message: impl Into<String>) -> Checked {
        Err(self.refusal(at, message))
    }

    fn refusal(&self, at: &IdedExpr, message: impl Into<String>) -> ExprError {
        let (start, stop) = self.source.offset_for(at.id).unwrap_or((0, 0));
        let byte = |chars: u32| {
            self.text
                .char_indices()
                .nth(chars as usize)
                .map_or(self.text.len(), |(at, _)| at)
        };
        let (mut offset, end) = (byte(start), byte(stop.saturating_add(1)));
        // A path is known by its last dot; shown from its beginning.
        if let Some(path) = path_of(at) {
            let before = self.text[..offset]
                .rfind(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
            offset = if path.indexed {
                offset
            } else {
                before.map_or(0, |at| at + 1)
            };
        }
        // A call is known by its bracket; shown from its name.
        if let Ast::Call(call) = &at.expr
            && self.text[..offset].ends_with(&call.func_name)
        {
            offset -= call.func_name.len();
        }
        ExprError::Invalid {
            message: message.into(),
            offset,
            len: end.saturating_sub(offset).max(1),
        }
    }
}

/// `root.field[index].…`
struct Path<'e> {
    root: &'e str,
    /// The fields up to the first index. What stands behind an index is not followed: everything there is read.
    fields: Vec<&'e str>,
    indexed: bool,
}

fn path_of(expr: &IdedExpr) -> Option<Path<'_>> {
    match &expr.expr {
        Ast::Ident(name) => Some(Path {
            root: name,
            fields: Vec::new(),
            indexed: false,
        }),
        Ast::Select(select) => {
            let mut path = path_of(&select.operand)?;
            if !path.indexed {
                path.fields.push(&select.field);
            }
            Some(path)
        }
        Ast::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
            let mut path = path_of(call.args.first()?)?;
            path.indexed = true;
            Some(path)
        }
        _ => None,
    }
}

fn is_literal(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Ast::Literal(_) => true,
        // -1
        Ast::Call(call) => {
            call.func_name == operators::NEGATE
                && call
                    .args
                    .iter()
                    .all(|arg| matches!(arg.expr, Ast::Literal(_)))
        }
        _ => false,
    }
}

/// The expansion of `filter`: `cond ? @result + [x] : @result`, whose elements are those of its range.
fn is_filter(c: &ComprehensionExpr) -> bool {
    let Ast::Call(step) = &c.loop_step.expr else {
        return false;
    };
    let [_, kept, _] = &step.args[..] else {
        return false;
    };
    let Ast::Call(kept) = &kept.expr else {
        return false;
    };
    let Some(Ast::List(list)) = kept.args.last().map(|arg| &arg.expr) else {
        return false;
    };
    step.func_name == operators::CONDITIONAL
        && !matches!(c.accu_init.expr, Ast::Literal(LiteralValue::Int(_)))
        && matches!(&list.elements[..], [IdedExpr { expr: Ast::Ident(name), .. }] if *name == c.iter_var)
}
