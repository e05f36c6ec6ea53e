//! How the entries of a graph hang together: every source exists, no cycle, every step reachable, no join across a hop. Then
//! the edges are drawn and the steps put into topological order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::names::closest;
use super::problem::Report;
use super::proof::Entries;
use super::shape::Places;
use super::{Edge, Step};

/// Where an event comes from: a trigger, or a port of a step, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Trigger(usize),
    Port {
        step: usize,
        port: usize,
    },
    /// Something that could not be read; it may be right.
    Broken,
}

struct Wiring<'a, 'r, 't> {
    entries: &'a Entries,
    places: &'a Places,
    report: &'r mut Report<'t>,
    triggers: HashMap<&'a str, usize>,
    steps: HashMap<&'a str, usize>,
}

/// The entries with their edges, steps in topological order; nothing where something is wrong.
pub(super) fn wire(
    mut entries: Entries,
    places: &Places,
    report: &mut Report<'_>,
) -> Option<Entries> {
    let (steps_from, sinks_from) = {
        let triggers = entries
            .triggers
            .iter()
            .enumerate()
            .map(|(i, trigger)| (trigger.name.as_str(), i))
            .collect();
        let steps = entries
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| (step.name.as_str(), i))
            .collect();
        let mut wiring = Wiring {
            entries: &entries,
            places,
            report,
            triggers,
            steps,
        };
        let steps_from: Vec<Vec<Source>> = entries
            .steps
            .iter()
            .map(|step| wiring.sources(&format!("steps/{}", step.name), &step.name, &step.from))
            .collect();
        let sinks_from: Vec<Vec<Source>> = entries
            .sinks
            .iter()
            .map(|sink| wiring.sources(&format!("sinks/{}", sink.name), &sink.name, &sink.from))
            .collect();
        let order = wiring.order(&steps_from);
        wiring.joins(&steps_from, &order);
        (steps_from, sinks_from)
    };
    if !report.is_clean() {
        return None;
    }
    draw(&mut entries, steps_from, sinks_from);
    Some(entries)
}

impl Wiring<'_, '_, '_> {
    fn sources(&mut self, path: &str, name: &str, from: &[String]) -> Vec<Source> {
        if from.is_empty() {
            let at = self.places.value(&format!("{path}/from"));
            self.report.add(
                at,
                format!("\"{name}\" takes from nothing"),
                format!("name a trigger or a step: {}", self.known()),
            );
        }
        let mut sources: Vec<Source> = Vec::new();
        for (i, text) in from.iter().enumerate() {
            let path = format!("{path}/from/{i}");
            let Some(source) = self.source(&path, text) else {
                continue;
            };
            if source != Source::Broken && sources.contains(&source) {
                self.report.add(
                    self.places.value(&path),
                    format!("\"{name}\" takes from \"{text}\" twice"),
                    "remove one",
                );
                continue;
            }
            sources.push(source);
        }
        sources
    }

    fn source(&mut self, path: &str, text: &str) -> Option<Source> {
        let at = self.places.value(path);
        let (name, port) = match text.split_once('.') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        if let Some(trigger) = self.triggers.get(name) {
            if let Some(port) = port {
                self.report.add(
                    at,
                    format!("the trigger \"{name}\" has no port \"{port}\": triggers have none"),
                    format!("write {name}"),
                );
                return None;
            }
            return Some(Source::Trigger(*trigger));
        }
        if let Some(step) = self.steps.get(name) {
            return self.port(at, *step, port);
        }
        if self.places.is_broken(&format!("triggers/{name}"))
            || self.places.is_broken(&format!("steps/{name}"))
        {
            return Some(Source::Broken);
        }
        if self.places.order("sinks").iter().any(|sink| sink == name) {
            self.report.add(
                at,
                format!("\"{name}\" is a sink: nothing comes out of it"),
                format!("take from what feeds it: {}", self.known()),
            );
            return None;
        }
        let names = self
            .entries
            .triggers
            .iter()
            .map(|trigger| &trigger.name)
            .chain(self.entries.steps.iter().map(|step| &step.name));
        let help = match closest(name, names.map(String::as_str)) {
            Some(near) => format!("did you mean \"{}\"?", self.example(near, port)),
            None => format!("there are: {}", self.known()),
        };
        self.report
            .add(at, format!("there is no trigger or step \"{name}\""), help);
        None
    }

    fn port(
        &mut self,
        at: super::problem::Span,
        step: usize,
        port: Option<&str>,
    ) -> Option<Source> {
        let it = &self.entries.steps[step];
        let wanted = port.unwrap_or("out");
        if let Some(port) = it.ports.iter().position(|known| known.name == wanted) {
            return Some(Source::Port { step, port });
        }
        let known: Vec<&str> = it.ports.iter().map(|port| port.name.as_str()).collect();
        let whole: Vec<String> = known
            .iter()
            .map(|port| format!("{}.{port}", it.name))
            .collect();
        let near = if known.len() == 1 {
            Some(known[0])
        } else {
            closest(wanted, known.iter().copied())
        };
        let help = match near {
            Some(near) => format!("did you mean \"{}.{near}\"?", it.name),
            None => format!("its ports: {}", whole.join(", ")),
        };
        self.report.add(
            at,
            format!("the step \"{}\" has no port \"{wanted}\"", it.name),
            help,
        );
        None
    }

    /// `name` with a port that it has.
    fn example(&self, name: &str, port: Option<&str>) -> String {
        let Some(step) = self.steps.get(name).map(|step| &self.entries.steps[*step]) else {
            return name.to_owned();
        };
        let ports: Vec<&str> = step.ports.iter().map(|port| port.name.as_str()).collect();
        match port
            .filter(|port| ports.contains(port))
            .or(ports.first().copied())
        {
            Some(port) if port != "out" => format!("{name}.{port}"),
            _ => name.to_owned(),
        }
    }

    fn known(&self) -> String {
        let steps = self.entries.steps.iter().flat_map(|step| {
            step.ports
                .iter()
                .map(move |port| edge_name(&step.name, &port.name))
        });
        let names = self
            .entries
            .triggers
            .iter()
            .map(|trigger| trigger.name.clone());
        let all: Vec<String> = names.chain(steps).collect();
        let more = if all.len() > 12 { ", …" } else { "" };
        format!(
            "{}{more}",
            all.iter()
                .take(12)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        )
    }

    /// Topological order as far as there is one; reports what has none.
    fn order(&mut self, from: &[Vec<Source>]) -> Vec<usize> {
        let order = topological(from);
        let placed: BTreeSet<usize> = order.iter().copied().collect();
        let mut left: BTreeSet<usize> = (0..from.len())
            .filter(|step| !placed.contains(step))
            .collect();
        let mut in_cycles: BTreeSet<usize> = BTreeSet::new();
        while let Some(cycle) = cycle_among(&left, from) {
            self.report_cycle(&cycle, from);
            for step in &cycle {
                left.remove(step);
                in_cycles.insert(*step);
            }
        }
        // Reached: a trigger, or something unread, is among what leads to it. Where sources are wrong, that was said.
        let mut reached = vec![false; from.len()];
        loop {
            let before = reached.iter().filter(|is| **is).count();
            for (step, sources) in from.iter().enumerate() {
                let incomplete = sources.len() < self.entries.steps[step].from.len()
                    || self.entries.steps[step].from.is_empty();
                reached[step] |= incomplete
                    || sources.iter().any(|source| match source {
                        Source::Port { step, .. } => reached[*step],
                        _ => true,
                    });
            }
            if reached.iter().filter(|is| **is).count() == before {
                break;
            }
        }
        for step in (0..from.len()).filter(|step| !reached[*step] && !in_cycles.contains(step)) {
            let name = &self.entries.steps[step].name;
            let at = self.places.key(&format!("steps/{name}"));
            let help =
                "no trigger leads to it; name one in the \"from\" of this step or of one before it";
            self.report
                .add(at, format!("the step \"{name}\" can never run"), help);
        }
        order
    }

    fn report_cycle(&mut self, cycle: &[usize], from: &[Vec<Source>]) {
        let name = |step: usize| self.entries.steps[step].name.as_str();
        let first = cycle[0];
        let last = cycle[cycle.len() - 1];
        let path: Vec<&str> = cycle
            .iter()
            .chain([&first])
            .map(|step| name(*step))
            .collect();
        // The edge back to the first.
        let back = from[first]
            .iter()
            .position(|source| matches!(source, Source::Port { step, .. } if *step == last))
            .unwrap_or(0);
        let at = self
            .places
            .value(&format!("steps/{}/from/{back}", name(first)));
        let message = format!("the steps run in a circle: {}", path.join(" → "));
        let help = format!(
            "take \"{}\" out of the \"from\" of \"{}\", or another edge of the circle",
            name(last),
            name(first)
        );
        self.report.add(at, message, help);
    }

    /// Branches of a join must lie in one segment: what runs from the triggers, or from the same hop, to the next hops.
    fn joins(&mut self, from: &[Vec<Source>], order: &[usize]) {
        // The segments that an event of each step may run in: `None` is that of the triggers, else the step with the hop.
        let mut segments: Vec<BTreeSet<Option<usize>>> = vec![BTreeSet::new(); from.len()];
        for step in order {
            let sources = &from[*step];
            let of = |source: &Source, segments: &[BTreeSet<Option<usize>>]| match source {
                Source::Port { step, .. } => segments[*step].clone(),
                _ => BTreeSet::from([None]),
            };
            let known: Vec<&Source> = sources
                .iter()
                .filter(|source| **source != Source::Broken)
                .collect();
            if self.entries.steps[*step].join
                && let Some(first) = known.first()
                && let Some(other) = known
                    .iter()
                    .find(|source| of(source, &segments) != of(first, &segments))
            {
                self.report_join(
                    *step,
                    (**first, of(first, &segments)),
                    (**other, of(other, &segments)),
                );
            }
            segments[*step] = if self.entries.steps[*step].hop.is_some() {
                BTreeSet::from([Some(*step)])
            } else {
                sources
                    .iter()
                    .flat_map(|source| of(source, &segments))
                    .collect()
            };
        }
    }

    fn report_join(
        &mut self,
        join: usize,
        a: (Source, BTreeSet<Option<usize>>),
        b: (Source, BTreeSet<Option<usize>>),
    ) {
        let name = |source: Source| match source {
            Source::Trigger(trigger) => self.entries.triggers[trigger].name.clone(),
            Source::Port { step, port } => edge_name(
                &self.entries.steps[step].name,
                &self.entries.steps[step].ports[port].name,
            ),
            Source::Broken => String::new(),
        };
        let segment = |set: &BTreeSet<Option<usize>>| {
            let parts: Vec<String> = set
                .iter()
                .map(|start| match start {
                    None => "before any hop".to_owned(),
                    Some(step) => {
                        format!("behind the hop of \"{}\"", self.entries.steps[*step].name)
                    }
                })
                .collect();
            parts.join(" and ")
        };
        let step = &self.entries.steps[join].name;
        let message = format!(
            "the join \"{step}\" gathers across a hop: \"{}\" runs {}, \"{}\" {}",
            name(a.0),
            segment(&a.1),
            name(b.0),
            segment(&b.1)
        );
        let help = format!("put the hop on \"{step}\" itself or behind it, or join before the hop");
        self.report.add(
            self.places.value(&format!("steps/{step}/join")),
            message,
            help,
        );
    }
}

/// Kahn's algorithm; among steps that are ready, the order of the file.
fn topological(from: &[Vec<Source>]) -> Vec<usize> {
    let mut waits: Vec<usize> = from
        .iter()
        .map(|sources| {
            sources
                .iter()
                .filter(|source| matches!(source, Source::Port { .. }))
                .count()
        })
        .collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); from.len()];
    for (step, sources) in from.iter().enumerate() {
        for source in sources {
            if let Source::Port { step: before, .. } = source {
                next[*before].push(step);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..from.len()).filter(|step| waits[*step] == 0).collect();
    let mut order = Vec::with_capacity(from.len());
    while let Some(step) = ready.pop_first() {
        order.push(step);
        for after in &next[step] {
            waits[*after] -= 1;
            if waits[*after] == 0 {
                ready.insert(*after);
            }
        }
    }
    order
}

/// Some cycle among these steps, in the direction in which events flow, beginning with the step that stands first.
fn cycle_among(among: &BTreeSet<usize>, from: &[Vec<Source>]) -> Option<Vec<usize>> {
    let before = |step: usize| {
        from[step].iter().filter_map(|source| match source {
            Source::Port { step, .. } if among.contains(step) => Some(*step),
            _ => None,
        })
    };
    // What has nothing before it is in no cycle; of the rest, walking back must meet itself.
    let mut rest = among.clone();
    loop {
        let loose: Vec<usize> = rest
            .iter()
            .copied()
            .filter(|step| !before(*step).any(|source| rest.contains(&source)))
            .collect();
        if loose.is_empty() {
            break;
        }
        rest.retain(|step| !loose.contains(step));
    }
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut walk = Vec::new();
    let mut step = *rest.first()?;
    while !seen.contains_key(&step) {
        seen.insert(step, walk.len());
        walk.push(step);
        step = before(step).find(|source| rest.contains(source))?;
    }
    let mut cycle = walk.split_off(seen[&step]);
    cycle.reverse();
    let first = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or(0);
    cycle.rotate_left(first);
    Some(cycle)
}

fn edge_name(step: &str, port: &str) -> String {
    format!("{step}.{port}")
}

/// Puts the steps into topological order and draws all edges. Only for entries without a problem.
fn draw(entries: &mut Entries, steps_from: Vec<Vec<Source>>, sinks_from: Vec<Vec<Source>>) {
    let order = topological(&steps_from);
    let mut position = vec![0; order.len()];
    order
        .iter()
        .enumerate()
        .for_each(|(at, step)| position[*step] = at);
    let name = |steps: &[Step], triggers: &[super::Trigger], source: &Source| match source {
        Source::Trigger(trigger) => triggers[*trigger].name.clone(),
        Source::Port { step, port } => {
            edge_name(&steps[*step].name, &steps[*step].ports[*port].name)
        }
        Source::Broken => String::new(),
    };
    let names = |sources: &Vec<Source>| {
        sources
            .iter()
            .map(|source| name(&entries.steps, &entries.triggers, source))
            .collect()
    };
    let steps_names: Vec<Vec<String>> = steps_from.iter().map(names).collect();
    let sinks_names: Vec<Vec<String>> = sinks_from.iter().map(names).collect();
    for step in &order {
        for (source, name) in steps_from[*step].iter().zip(&steps_names[*step]) {
            let edge = Edge {
                to: position[*step],
                name: name.clone(),
            };
            match source {
                Source::Trigger(trigger) => entries.triggers[*trigger].edges.push(edge),
                Source::Port { step, port } => entries.steps[*step].ports[*port].edges.push(edge),
                Source::Broken => {}
            }
        }
    }
    for (sink, sources) in sinks_from.iter().enumerate() {
        for source in sources {
            match source {
                Source::Trigger(trigger) => entries.triggers[*trigger].sinks.push(sink),
                Source::Port { step, port } => entries.steps[*step].ports[*port].sinks.push(sink),
                Source::Broken => {}
            }
        }
    }
    entries
        .steps
        .iter_mut()
        .zip(steps_names)
        .for_each(|(step, names)| step.from = names);
    entries
        .sinks
        .iter_mut()
        .zip(sinks_names)
        .for_each(|(sink, names)| sink.from = names);
    let mut steps: Vec<Option<Step>> = entries.steps.drain(..).map(Some).collect();
    entries.steps = order
        .iter()
        .filter_map(|step| steps[*step].take())
        .collect();
}
