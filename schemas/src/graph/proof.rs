//! Proves each entry of a graph by itself: names, kinds, units, expressions, paths.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::file::{self, GraphFile, SinkFile, StepFile, TriggerFile, WebhookFile};
use super::names;
use super::parse::{SINK_KINDS, TRIGGER_KINDS};
use super::problem::Report;
use super::shape::Places;
use super::{
    Backoff, Cron, ERROR_PORT, Expr, ExprError, GraphLimits, Isolation, Limits, OnError, Port,
    PostgresTrigger, Retry, RetryOn, RetryOrder, Scheme, Sink, SinkKind, Step, StepOnError,
    TopicTrigger, Trigger, TriggerKind, Verify, Webhook, WriteMode, units,
};

/// Entries of one sort: triggers, steps or sinks.
const ENTRIES_MAX: usize = 1_000;
const PORTS_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 255;
const TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(300));
const MEMORY: (u64, u64) = (64 << 10, 4 << 30);
const OUTPUT: (u64, u64) = (1, 256 << 20);

/// What is left of the file after this pass; edges are not drawn yet, `from` is as written.
pub(super) struct Entries {
    pub(super) name: String,
    pub(super) triggers: Vec<Trigger>,
    pub(super) steps: Vec<Step>,
    pub(super) sinks: Vec<Sink>,
    pub(super) on_error: OnError,
    pub(super) limits: GraphLimits,
}

pub(super) fn prove(
    file: GraphFile,
    places: &Places,
    text: &str,
    report: &mut Report<'_>,
) -> Entries {
    let mut proof = Proof {
        places,
        text,
        report,
    };
    proof.head(&file);
    let triggers = file.triggers.unwrap_or_default();
    proof.names();
    proof.paths_once(&triggers);
    let triggers = in_order(triggers, places.order("triggers"))
        .map(|(name, trigger)| proof.trigger(name, trigger))
        .collect();
    let steps = in_order(file.steps, places.order("steps"))
        .map(|(name, step)| proof.step(name, step))
        .collect();
    let sinks = in_order(file.sinks, places.order("sinks"))
        .map(|(name, sink)| proof.sink(name, sink))
        .collect();
    let on_error = match file.on_error {
        file::OnErrorFile::DeadLetter => OnError::DeadLetter,
        file::OnErrorFile::Discard => OnError::Discard,
        file::OnErrorFile::Pause => OnError::Pause,
    };
    let limits = proof.graph_limits(file.limits);
    Entries {
        name: file.name.unwrap_or_default(),
        triggers,
        steps,
        sinks,
        on_error,
        limits,
    }
}

fn in_order<T>(
    mut entries: BTreeMap<String, T>,
    order: &[String],
) -> impl Iterator<Item = (String, T)> {
    order
        .iter()
        .filter_map(move |name| entries.remove_entry(name))
}

struct Proof<'a, 'r, 't> {
    places: &'a Places,
    text: &'a str,
    report: &'r mut Report<'t>,
}

impl Proof<'_, '_, '_> {
    fn head(&mut self, file: &GraphFile) {
        if file.weir.is_none() && !self.places.is_broken("weir") {
            self.report.add(
                (0, 0),
                "the file does not say \"weir: 1\"",
                "begin with \"weir: 1\"",
            );
        }
        match &file.name {
            Some(name) => self.name("name", name),
            None if self.places.is_broken("name") => {}
            None => self
                .report
                .add((0, 0), "the graph has no name", "add \"name: my-graph\""),
        }
        if self.places.order("triggers").is_empty() && !self.places.is_broken("triggers") {
            let help = "add one, such as \"triggers: { hand: { manual: {} } }\"";
            self.report.add(
                self.places.key("triggers"),
                "the graph has no triggers: nothing would start it",
                help,
            );
        }
        let empty = |path: &str| self.places.order(path).is_empty() && !self.places.is_broken(path);
        if empty("steps") && empty("sinks") {
            let help = "add a step that takes from a trigger, such as \"steps: { first: { uses: ./first.wasm, from: [hand] } }\"";
            self.report.add(
                (0, 0),
                "the graph has neither steps nor sinks: it would do nothing",
                help,
            );
        }
    }

    /// Each name well formed and, over triggers, steps and sinks, used once.
    fn names(&mut self) {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (section, what) in [
            ("triggers", "trigger"),
            ("steps", "step"),
            ("sinks", "sink"),
        ] {
            let order = self.places.order(section);
            if order.len() > ENTRIES_MAX {
                let message = format!(
                    "the graph has {} {section}; at most {ENTRIES_MAX} are allowed",
                    order.len()
                );
                self.report
                    .add(self.places.key(section), message, "split the graph");
            }
            for name in order {
                let path = format!("{section}/{name}");
                self.name(&path, name);
                if let Some(other) = seen.insert(name, what) {
                    let message = format!("\"{name}\" is the name of a {other} and of a {what}");
                    self.report
                        .add(self.places.key(&path), message, "rename one of them");
                }
            }
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        // The graph's own name is a value, all others are keys.
        let at = if path == "name" {
            self.places.value(path)
        } else {
            self.places.key(path)
        };
        if let Some(fault) = names::fault(name) {
            self.report.add(at, fault, "use a-z, 0-9, \"_\" and \"-\", beginning with a letter or digit, at most 63 characters");
        } else if name.starts_with("weir")
            && matches!(name.as_bytes().get(4), None | Some(b'-' | b'_'))
        {
            self.report.add(
                at,
                format!("\"{name}\" is reserved: names that begin with \"weir\" are Weir's own"),
                "choose another name",
            );
        }
    }

    fn paths_once(&mut self, triggers: &BTreeMap<String, TriggerFile>) {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for name in self.places.order("triggers") {
            let Some(webhook) = triggers
                .get(name)
                .and_then(|trigger| trigger.webhook.as_ref())
            else {
                continue;
            };
            if let Some(other) = seen.insert(&webhook.path, name) {
                let message =
                    format!("trigger \"{name}\" has the same webhook path as \"{other}\"");
                self.report.add(
                    self.places.value(&format!("triggers/{name}/webhook/path")),
                    message,
                    "give each its own path",
                );
            }
        }
    }

    /// Which of the kinds is there; exactly one must be.
    fn one_kind(&mut self, path: &str, what: &str, kinds: &[&str], present: &[bool]) {
        let found: Vec<&str> = kinds
            .iter()
            .zip(present)
            .filter(|(_, is)| **is)
            .map(|(kind, _)| *kind)
            .collect();
        match found[..] {
            [_] => {}
            _ if self.places.is_broken(path) => {}
            [] if kinds
                .iter()
                .any(|kind| self.places.is_broken(&format!("{path}/{kind}"))) => {}
            [] => self.report.add(
                self.places.key(path),
                format!("{what} has no kind"),
                format!("add one of: {}", kinds.join(", ")),
            ),
            [..] => {
                let message = format!("{what} has more than one kind: {}", found.join(", "));
                let last = found
                    .iter()
                    .map(|kind| self.places.key(&format!("{path}/{kind}")))
                    .max();
                self.report
                    .add(last.unwrap_or_default(), message, "make each its own entry");
            }
        }
    }

    fn trigger(&mut self, name: String, file: TriggerFile) -> Trigger {
        let path = format!("triggers/{name}");
        let present = [
            file.webhook.is_some(),
            file.cron.is_some(),
            file.topic.is_some(),
            file.postgres.is_some(),
            file.manual.is_some(),
        ];
        self.one_kind(
            &path,
            &format!("trigger \"{name}\""),
            &TRIGGER_KINDS,
            &present,
        );
        let key = self.expr(&format!("{path}/key"), file.key.as_deref());
        let kind = match file {
            TriggerFile {
                webhook: Some(webhook),
                ..
            } => TriggerKind::Webhook(self.webhook(&path, webhook)),
            TriggerFile {
                cron: Some(cron), ..
            } => {
                self.cron(&path, &cron);
                TriggerKind::Cron(Cron {
                    schedule: cron.schedule,
                    timezone: cron.timezone,
                    misfire: cron.misfire,
                })
            }
            TriggerFile {
                topic: Some(topic), ..
            } => {
                self.topic(&format!("{path}/topic/name"), &topic.name);
                self.start(&format!("{path}/topic/from"), &topic.from);
                TriggerKind::Topic(TopicTrigger {
                    name: topic.name,
                    format: format_word(topic.format).to_owned(),
                    from: topic.from,
                })
            }
            TriggerFile {
                postgres: Some(postgres),
                ..
            } => {
                self.destination(&format!("{path}/postgres/source"), &postgres.source);
                self.table(&format!("{path}/postgres/outbox"), &postgres.outbox);
                TriggerKind::Postgres(PostgresTrigger {
                    source: postgres.source,
                    outbox: postgres.outbox,
                })
            }
            TriggerFile { .. } => TriggerKind::Manual,
        };
        Trigger {
            name,
            kind,
            key,
            edges: Vec::new(),
            sinks: Vec::new(),
        }
    }

    fn webhook(&mut self, path: &str, file: WebhookFile) -> Webhook {
        let at = self.places.value(&format!("{path}/webhook/path"));
        if !file.path.starts_with('/') {
            self.report.add(
                at,
                "a webhook's path begins with \"/\"",
                format!("write /{}", file.path),
            );
        } else if file.path.len() > PATH_BYTES_MAX
            || file
                .path
                .bytes()
                .any(|b| !b.is_ascii_graphic() || b"?#%\\".contains(&b))
        {
            let help = format!(
                "use visible ASCII without ?, #, % and \\, at most {PATH_BYTES_MAX} characters"
            );
            self.report.add(at, "this cannot be a webhook's path", help);
        } else if file
            .path
            .split('/')
            .skip(1)
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            self.report.add(
                at,
                "a webhook's path has no empty parts, \".\" or \"..\"",
                "write it plainly, such as /orders",
            );
        }
        let verify = file.verify.map(|verify| {
            self.secret(&format!("{path}/webhook/verify/secret"), &verify.secret);
            let scheme = match verify.scheme {
                file::SchemeFile::Github => Scheme::Github,
                file::SchemeFile::Standard => Scheme::Standard,
            };
            Verify {
                scheme,
                secret: verify.secret,
            }
        });
        let schema = self.schema(&format!("{path}/webhook/schema"), file.schema);
        Webhook {
            path: file.path,
            verify,
            schema,
        }
    }

    /// A schema's text, or the path of the file that has it.
    fn schema(&mut self, path: &str, schema: Option<file::BodySchemaFile>) -> Option<String> {
        Some(match schema? {
            file::BodySchemaFile::Inline(map) => serde_json::Value::Object(map).to_string(),
            file::BodySchemaFile::Path(name) => {
                if name.trim().is_empty() || name.starts_with('{') {
                    self.report.add(
                        self.places.value(path),
                        "\"schema\" is no path",
                        "write a file's path, or the schema itself as a map",
                    );
                }
                name
            }
        })
    }

    fn cron(&mut self, path: &str, cron: &file::CronFile) {
        let at = |field: &str| self.places.value(&format!("{path}/cron/{field}"));
        let known = |c: char| c.is_ascii_alphanumeric() || "*,-/?#".contains(c);
        if cron.schedule.split_whitespace().count() != 5
            || !cron.schedule.chars().all(|c| known(c) || c == ' ')
        {
            let help = "write five fields: minute, hour, day of the month, month, day of the week; such as \"0 2 * * *\"";
            self.report.add(at("schedule"), "this is no schedule", help);
        }
        let zone_char = |c: char| c.is_ascii_alphanumeric() || "_/+-".contains(c);
        if let Some(zone) = &cron.timezone
            && (zone.is_empty() || !zone.chars().all(zone_char))
        {
            self.report.add(
                at("timezone"),
                "this is no time zone",
                "write an IANA name such as Europe/Berlin",
            );
        }
        if let Some(misfire) = &cron.misfire
            && names::fault(misfire).is_some()
        {
            self.report
                .add(at("misfire"), "unknown misfire rule", "such as fire-once");
        }
    }

    fn start(&mut self, path: &str, from: &str) {
        if from != "latest" && from != "earliest" && !is_time(from) {
            let help = "write latest, earliest or a time such as 2026-01-31T00:00:00Z";
            self.report.add(
                self.places.value(path),
                format!("a topic cannot start from \"{from}\""),
                help,
            );
        }
    }

    fn topic(&mut self, path: &str, name: &str) {
        let at = self.places.value(path);
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty()
            || name.len() > 249
            || name == "."
            || name == ".."
            || !name.bytes().all(known)
        {
            self.report.add(
                at,
                "this cannot be a topic's name",
                "use a-z, A-Z, 0-9, \".\", \"_\" and \"-\", at most 249 characters",
            );
        } else if name.to_ascii_lowercase().starts_with("weir") {
            let message = format!(
                "the topic \"{name}\" is refused: topics that begin with \"weir\" are Weir's own"
            );
            self.report.add(at, message, "name another topic");
        }
    }

    fn destination(&mut self, path: &str, name: &str) {
        if names::fault(name).is_some() {
            let help = "name it as weir.toml does: [destinations.NAME]";
            self.report.add(
                self.places.value(path),
                format!("\"{name}\" is no destination's name"),
                help,
            );
        }
    }

    fn table(&mut self, path: &str, table: &str) {
        let parts: Vec<&str> = table.split('.').collect();
        let at = self.places.value(path);
        if parts.len() > 2 || !parts.iter().all(|part| is_identifier(part)) {
            let help = "write table or schema.table, of letters, digits and \"_\"";
            self.report
                .add(at, format!("\"{table}\" is no table's name"), help);
        } else if parts
            .last()
            .is_some_and(|last| last.to_ascii_lowercase().starts_with("weir"))
        {
            let message = format!(
                "the table \"{table}\" is refused: tables that begin with \"weir\" are Weir's own"
            );
            self.report.add(at, message, "name another table");
        }
    }

    fn columns(&mut self, path: &str, columns: &[String]) {
        for (i, column) in columns.iter().enumerate() {
            if !is_identifier(column) {
                let at = self.places.value(&format!("{path}/{i}"));
                self.report.add(
                    at,
                    format!("\"{column}\" is no column's name"),
                    "use letters, digits and \"_\"",
                );
            } else if columns[..i].contains(column) {
                self.report.add(
                    self.places.value(&format!("{path}/{i}")),
                    format!("the column \"{column}\" is named twice"),
                    "remove one",
                );
            }
        }
    }

    fn secret(&mut self, path: &str, name: &str) {
        if !is_identifier(name) {
            let help = "a secret is named, never written down here: letters, digits and \"_\", such as ORDERS_KEY";
            self.report
                .add(self.places.value(path), "this is no secret's name", help);
        }
    }

    fn graph_limits(&mut self, file: Option<file::GraphLimitsFile>) -> GraphLimits {
        let usual = GraphLimits::default();
        let Some(file) = file else {
            return usual;
        };
        let time = file.time.as_deref();
        GraphLimits {
            time: time.map_or(usual.time, |time| self.time("limits/time", time)),
            calls: file.calls.unwrap_or(usual.calls),
        }
    }

    fn step(&mut self, name: String, file: StepFile) -> Step {
        let path = format!("steps/{name}");
        let at = |field: &str| self.places.value(&format!("{path}/{field}"));
        if file.uses.trim().is_empty()
            || file.uses.len() > 1024
            || file.uses.chars().any(char::is_control)
        {
            let help =
                "write a path such as ./check.wasm, a module such as price@1.2.0, or sha256:…";
            self.report.add(at("uses"), "this names no module", help);
        } else if let Some(digest) = file.uses.strip_prefix("sha256:")
            && !super::canonical::is_digest(digest)
        {
            self.report.add(
                at("uses"),
                "this is no digest",
                "write sha256: and 64 digits of 0-9 and a-f",
            );
        }
        if file.uses.starts_with(super::inline::GRAPH) {
            let says = [
                ("join", file.join.is_some()),
                ("hop", file.hop.is_some()),
                ("settings", !file.settings.is_empty()),
                ("http", !file.http.allow.is_empty()),
                ("secrets", !file.secrets.is_empty()),
                ("log", file.log),
            ];
            for (field, _) in says.iter().filter(|(_, says)| *says) {
                self.report.add(
                    at(field),
                    format!("\"{field}\" cannot stand at a sub-graph"),
                    "put it at the steps inside it",
                );
            }
        }
        if file.ports.is_empty() {
            self.report.add(
                at("ports"),
                format!("step \"{name}\" has no ports"),
                "leave \"ports\" out for the single port \"out\"",
            );
        }
        if file.ports.len() > PORTS_MAX {
            self.report.add(
                at("ports"),
                format!("a step has at most {PORTS_MAX} ports"),
                "send the kind of event in a header instead",
            );
        }
        for (i, port) in file.ports.iter().enumerate() {
            let place = self.places.value(&format!("{path}/ports/{i}"));
            if let Some(fault) = names::fault(port) {
                self.report.add(place, fault, "use a-z, 0-9, \"_\" and \"-\", beginning with a letter or digit, at most 63 characters");
            } else if file.ports[..i].contains(port) {
                self.report.add(
                    place,
                    format!("the port \"{port}\" is named twice"),
                    "remove one",
                );
            }
        }
        let usual = Limits::default();
        let limits = Limits {
            time: self.time(&format!("{path}/limits/time"), &file.limits.time),
            memory_bytes: self.bytes(
                &format!("{path}/limits/memory"),
                &file.limits.memory,
                MEMORY,
            ),
            output_bytes: self.bytes(
                &format!("{path}/limits/output"),
                &file.limits.output,
                OUTPUT,
            ),
            outputs: file.limits.outputs.unwrap_or(usual.outputs),
            requests: file.limits.requests.unwrap_or(usual.requests),
            log_lines: file.limits.logs.unwrap_or(usual.log_lines),
        };
        let routes = matches!(file.on_error, file::StepOnErrorFile::Route);
        if routes && !file.ports.iter().any(|port| port == ERROR_PORT) {
            let help = format!("add it, such as \"ports: [out, {ERROR_PORT}]\"");
            self.report.add(
                at("on_error"),
                format!("a step with \"on_error: route\" needs the port \"{ERROR_PORT}\""),
                help,
            );
        }
        for (i, host) in file.http.allow.iter().enumerate() {
            self.host(&format!("{path}/http/allow/{i}"), host);
        }
        for (i, secret) in file.secrets.iter().enumerate() {
            self.secret(&format!("{path}/secrets/{i}"), secret);
        }
        let when = self.expr(&format!("{path}/when"), file.when.as_deref());
        let hop = self.expr(&format!("{path}/hop"), file.hop.as_deref());
        Step {
            name,
            uses: file.uses,
            ports: file
                .ports
                .into_iter()
                .map(|name| Port {
                    name,
                    edges: Vec::new(),
                    sinks: Vec::new(),
                })
                .collect(),
            from: file.from,
            join: file.join.is_some(),
            when,
            hop,
            settings: super::canonical::write(&serde_json::Value::Object(file.settings)),
            limits,
            retry: Retry {
                attempts: file.retry.attempts,
                backoff: match file.retry.backoff {
                    file::BackoffFile::Constant => Backoff::Constant,
                    file::BackoffFile::Exponential => Backoff::Exponential,
                },
                order: match file.retry.order {
                    file::OrderFile::Keep => RetryOrder::Keep,
                    file::OrderFile::Release => RetryOrder::Release,
                },
                on: file
                    .retry
                    .on
                    .iter()
                    .map(|on| match on {
                        file::RetryOnFile::Timeout => RetryOn::Timeout,
                        file::RetryOnFile::Trap => RetryOn::Trap,
                    })
                    .collect(),
            },
            isolation: match file.isolation {
                file::IsolationFile::Record => Isolation::Record,
                file::IsolationFile::Batch => Isolation::Batch,
            },
            on_error: match file.on_error {
                file::StepOnErrorFile::Fail => StepOnError::Fail,
                file::StepOnErrorFile::Continue => StepOnError::Continue,
                file::StepOnErrorFile::Route => StepOnError::Route,
            },
            log: file.log,
            http_allow: file.http.allow,
            secrets: file.secrets,
        }
    }

    fn host(&mut self, path: &str, host: &str) {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "443"));
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !name.split('.').all(label) || port.parse::<u16>().is_err() || host.len() > 253 {
            let help = "write a host such as api.example.com or api.example.com:8443, without https:// and without a path";
            self.report.add(
                self.places.value(path),
                format!("\"{host}\" is no host"),
                help,
            );
        }
    }

    fn time(&mut self, path: &str, text: &str) -> Duration {
        let (low, high) = TIME;
        let Some(time) = units::duration(text) else {
            let help = "write a whole number and a unit (ms, s, m, h), such as 500ms, 2s or 1m";
            self.report.add(
                self.places.value(path),
                format!("\"{text}\" is no duration"),
                help,
            );
            return low;
        };
        if time < low || time > high {
            let help = format!(
                "from {} to {}",
                units::write_duration(low),
                units::write_duration(high)
            );
            self.report.add(
                self.places.value(path),
                format!("\"time\" is {text}, which is out of range"),
                help,
            );
        }
        time
    }

    fn bytes(&mut self, path: &str, text: &str, (low, high): (u64, u64)) -> u64 {
        let Some(bytes) = units::size(text) else {
            let help = "write a whole number and a unit (B, KiB, MiB, GiB, KB, MB, GB), such as 64MiB or 10MB";
            self.report.add(
                self.places.value(path),
                format!("\"{text}\" is no size"),
                help,
            );
            return low;
        };
        if bytes < low || bytes > high {
            let field = path.rsplit('/').next().unwrap_or_default();
            let help = format!(
                "from {} to {}",
                units::write_size(low),
                units::write_size(high)
            );
            self.report.add(
                self.places.value(path),
                format!("\"{field}\" is {text}, which is out of range"),
                help,
            );
        }
        bytes
    }

    fn sink(&mut self, name: String, file: SinkFile) -> Sink {
        let path = format!("sinks/{name}");
        let present = [
            file.postgres.is_some(),
            file.scylla.is_some(),
            file.topic.is_some(),
        ];
        self.one_kind(&path, &format!("sink \"{name}\""), &SINK_KINDS, &present);
        let kind = match file {
            SinkFile {
                scylla: Some(scylla),
                ..
            } => {
                self.destination(&format!("{path}/scylla/to"), &scylla.to);
                self.table(&format!("{path}/scylla/table"), &scylla.table);
                SinkKind::Scylla {
                    to: scylla.to,
                    table: scylla.table,
                }
            }
            SinkFile {
                topic: Some(topic), ..
            } => {
                self.topic(&format!("{path}/topic/name"), &topic.name);
                let key = self.expr(&format!("{path}/topic/key"), topic.key.as_deref());
                let at = format!("{path}/topic/schema");
                let is_avro = matches!(topic.format, file::FormatFile::Avro);
                if topic.schema.is_some() && !is_avro {
                    let help = "write format: avro, or leave the schema out";
                    self.report.add(
                        self.places.value(&at),
                        "only a topic with format avro has a schema",
                        help,
                    );
                }
                let schema = self.schema(&at, topic.schema);
                SinkKind::Topic {
                    name: topic.name,
                    key,
                    format: format_word(topic.format).to_owned(),
                    schema,
                }
            }
            SinkFile { postgres, .. } => self.postgres_sink(&path, postgres),
        };
        Sink {
            name,
            kind,
            from: file.from,
        }
    }

    fn postgres_sink(&mut self, path: &str, file: Option<file::PostgresSinkFile>) -> SinkKind {
        let Some(file) = file else {
            // It has no kind: reported already.
            return SinkKind::Scylla {
                to: String::new(),
                table: String::new(),
            };
        };
        let path = format!("{path}/postgres");
        self.destination(&format!("{path}/to"), &file.to);
        self.table(&format!("{path}/table"), &file.table);
        self.columns(&format!("{path}/key"), &file.key);
        self.columns(&format!("{path}/columns"), &file.columns);
        let mode = match file.mode {
            file::ModeFile::Insert => WriteMode::Insert,
            file::ModeFile::Upsert => WriteMode::Upsert,
            file::ModeFile::Delete => WriteMode::Delete,
        };
        if mode != WriteMode::Insert && file.key.is_empty() {
            let at = self.places.value(&format!("{path}/mode"));
            self.report.add(
                at,
                "this mode needs to know which columns name a row",
                "add \"key: [id]\"",
            );
        }
        SinkKind::Postgres {
            to: file.to,
            table: file.table,
            mode,
            key: file.key,
            columns: file.columns,
        }
    }

    fn expr(&mut self, path: &str, text: Option<&str>) -> Option<Expr> {
        match Expr::parse(text?) {
            Ok(expr) => Some(expr),
            Err(ExprError::Invalid {
                message,
                offset,
                len,
            }) => {
                let (message, help) = match message.split_once("; ") {
                    Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                    None => (message, None),
                };
                self.report
                    .add(self.inside(path, text?, offset, len), message, help);
                None
            }
            Err(other) => {
                self.report
                    .add(self.places.value(path), other.to_string(), None);
                None
            }
        }
    }

    /// A part of a text in the file, where the file writes that text as it is; else all of it.
    fn inside(&self, path: &str, value: &str, offset: usize, len: usize) -> (usize, usize) {
        let (start, whole) = self.places.value(path);
        let written = self.text.get(start..).unwrap_or_default();
        match written.find(value) {
            // Directly, or behind a quote.
            Some(at @ 0..=1) => (start + at + offset, len),
            _ => (start, whole),
        }
    }
}

pub(super) fn format_word(format: file::FormatFile) -> &'static str {
    match format {
        file::FormatFile::Avro => "avro",
        file::FormatFile::Json => "json",
        file::FormatFile::Raw => "raw",
    }
}

/// A name of SQL's, or of a secret: letters, digits and `_`, not a digit first, at most 63.
pub fn is_identifier(text: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.len() <= 63
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(|b| first(b) || b.is_ascii_digit())
}

/// RFC 3339, by its form: `2026-01-31T00:00:00Z`, with a fraction or an offset if need be.
fn is_time(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd";
    let Some((head, tail)) = text.as_bytes().split_at_checked(form.len()) else {
        return false;
    };
    let fits = head.iter().zip(form).all(|(b, f)| {
        if *f == b'd' {
            b.is_ascii_digit()
        } else {
            b == f
        }
    });
    let zone = tail.strip_prefix(b".").map_or(tail, |fraction| {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        &fraction[digits..]
    });
    let offset = matches!(zone, [b'+' | b'-', a, b, b':', c, d] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()));
    fits && (zone == b"Z" || offset)
}
