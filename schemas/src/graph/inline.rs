//! Sub-graphs: a step that `uses: graph:NAME@VERSION` is replaced by that graph's steps. Pure.
//!
//! The events that the step takes stand in for those of the sub-graph's triggers; its ports are the ports of inner steps that no inner step
//! takes, by their names; its sinks come along. A step `check` of the sub-graph behind `bill` is called `bill--check`, so a version says
//! whole what runs: a sub-graph that changes later changes nothing here.

use std::collections::BTreeMap;

use super::file::{GraphFile, StepFile};

/// What begins the `uses` of a sub-graph.
pub(super) const GRAPH: &str = "graph:";
/// Between the step's name and the inner one's.
const BETWEEN: &str = "--";

/// Why a sub-graph cannot take a step's place.
pub(super) struct Misfit {
    pub(super) step: String,
    pub(super) message: String,
}

/// Both in canonical form: every `from` names a port. `subs`: the graph of each step that uses one.
pub(super) fn expand(
    mut parent: GraphFile,
    subs: &BTreeMap<String, GraphFile>,
) -> Result<GraphFile, Misfit> {
    let mut exits = BTreeMap::new();
    let mut inner = Vec::new();
    for (name, sub) in subs {
        let Some(step) = parent.steps.remove(name) else {
            continue;
        };
        for port in &step.ports {
            let found = outlets(name, sub, port);
            if found.is_empty() {
                return Err(Misfit {
                    step: name.clone(),
                    message: format!(
                        "the sub-graph has no port \"{port}\" that leads out of it; it has: {}",
                        offered(sub)
                    ),
                });
            }
            exits.insert(format!("{name}.{port}"), found);
        }
        inner.push((name, step, sub));
    }
    for (name, step, sub) in inner {
        // what it takes may itself come out of a sub-graph
        for (of, inner) in &sub.steps {
            let added = placed(name, &step, sub, inner)?;
            parent.steps.insert(prefixed(name, of), added);
        }
        for (of, sink) in &sub.sinks {
            let mut sink = sink.clone();
            sink.from = from(name, &step, sub, &sink.from);
            parent.sinks.insert(prefixed(name, of), sink);
        }
    }
    let lead = |from: &mut Vec<String>| {
        let mut led = Vec::with_capacity(from.len());
        for source in from.drain(..) {
            match exits.get(&source) {
                Some(found) => led.extend(found.iter().cloned()),
                None => led.push(source),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        led.retain(|source| seen.insert(source.clone()));
        *from = led;
    };
    // a sub-graph may take from another one: each pass leads one deeper
    for _ in 0..=subs.len() {
        parent
            .steps
            .values_mut()
            .for_each(|step| lead(&mut step.from));
        parent
            .sinks
            .values_mut()
            .for_each(|sink| lead(&mut sink.from));
    }
    Ok(parent)
}

fn prefixed(name: &str, inner: &str) -> String {
    format!("{name}{BETWEEN}{inner}")
}

/// A step of the sub-graph in its new place.
fn placed(
    name: &str,
    outer: &StepFile,
    sub: &GraphFile,
    inner: &StepFile,
) -> Result<StepFile, Misfit> {
    let mut placed = inner.clone();
    placed.from = from(name, outer, sub, &inner.from);
    let enters = |source: &String| is_trigger(sub, source);
    if let Some(outer) = &outer.when
        && inner.from.iter().any(enters)
    {
        if !inner.from.iter().all(enters) {
            return Err(Misfit {
                step: name.to_owned(),
                message: "`when` cannot stand at a sub-graph of which a step takes from its trigger and from other steps; put it into the sub-graph".into(),
            });
        }
        placed.when = Some(match &inner.when {
            Some(inner) => format!("({outer}) && ({inner})"),
            None => outer.clone(),
        });
    }
    Ok(placed)
}

/// The sources of an inner entry, seen from outside.
fn from(name: &str, outer: &StepFile, sub: &GraphFile, inner: &[String]) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for source in inner {
        let led = if is_trigger(sub, source) {
            outer.from.clone()
        } else {
            vec![prefixed(name, source)]
        };
        for one in led {
            if !sources.contains(&one) {
                sources.push(one);
            }
        }
    }
    sources
}

fn is_trigger(graph: &GraphFile, source: &str) -> bool {
    let triggers = graph.triggers.as_ref();
    triggers.is_some_and(|triggers| triggers.contains_key(source))
}

/// Ports of this name that no inner step takes.
fn outlets(name: &str, sub: &GraphFile, port: &str) -> Vec<String> {
    let led_out = |step: &String| {
        let source = format!("{step}.{port}");
        let taken = sub.steps.values().any(|other| other.from.contains(&source));
        (!taken).then(|| prefixed(name, &source))
    };
    let has = sub
        .steps
        .iter()
        .filter(|(_, step)| step.ports.iter().any(|p| p == port));
    has.filter_map(|(step, _)| led_out(step)).collect()
}

fn offered(sub: &GraphFile) -> String {
    let mut ports: Vec<&str> = Vec::new();
    for (name, step) in &sub.steps {
        for port in &step.ports {
            let source = format!("{name}.{port}");
            let taken = sub.steps.values().any(|other| other.from.contains(&source));
            if !taken && !ports.contains(&port.as_str()) {
                ports.push(port);
            }
        }
    }
    ports.join(", ")
}
