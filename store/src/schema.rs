//! The tables, and how an older store is brought up to date.
//!
//! Each entry of `STEPS` is applied once, in order, in one transaction with the number that says so. An entry is never
//! edited once released: a change is a new entry.

use crate::database::Query;

/// A statement of a step.
pub(crate) struct Ddl {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Ddl {
    pub(crate) fn query(&self) -> Query {
        Query::each(self.sqlite, self.postgres)
    }
}

/// The same for both.
const fn both(text: &'static str) -> Ddl {
    each(text, text)
}

const fn each(sqlite: &'static str, postgres: &'static str) -> Ddl {
    Ddl { sqlite, postgres }
}

/// Statements of each format, oldest first. Format n is what the first n entries make.
///
/// Postgres orders names byte by byte (`collate "C"`), as SQLite does.
pub(crate) const STEPS: &[&[Ddl]] = &[
    FIRST,
    STATES,
    SUBSCRIPTIONS,
    REDRIVES,
    SINK_SCHEMAS,
    WRITE_TIMES,
    STEPS_OF_GRAPHS,
];

const FIRST: &[Ddl] = &[
    // One row per thing that is counted: the epoch of graphs, the last number of each inbox shard.
    each(
        "create table counters (name text not null primary key, value bigint not null)",
        "create table counters (name text collate \"C\" not null primary key, value bigint not null) with (fillfactor = 50)",
    ),
    each(
        "create table modules (digest text not null primary key, bytes blob not null)",
        "create table modules (digest text collate \"C\" not null primary key, bytes bytea not null)",
    ),
    // The canonical form of a graph under its version; never changed, never doubled.
    each(
        "create table versions (version text not null primary key, canonical blob not null)",
        "create table versions (version text collate \"C\" not null primary key, canonical bytea not null)",
    ),
    // A graph is a name with a pointer to its active version.
    each(
        "create table graphs (
        tenant text not null, graph text not null, version text not null, epoch bigint not null, at_ms bigint not null,
        primary key (tenant, graph))",
        "create table graphs (
        tenant text collate \"C\" not null, graph text collate \"C\" not null, version text collate \"C\" not null,
        epoch bigint not null, at_ms bigint not null,
        primary key (tenant, graph))",
    ),
    // Everything that ever happened to a graph; `source` is the text that the user wrote.
    each(
        "create table changes (
        epoch bigint not null primary key, tenant text not null, graph text not null, kind text not null,
        version text not null, source text not null, at_ms bigint not null)",
        "create table changes (
        epoch bigint not null primary key, tenant text collate \"C\" not null, graph text collate \"C\" not null,
        kind text not null, version text collate \"C\" not null, source text not null, at_ms bigint not null)",
    ),
    both("create index changes_of_graph on changes (tenant, graph, epoch)"),
    each(
        "create table webhooks (
        tenant text not null, path text not null, graph text not null, trigger_name text not null,
        primary key (tenant, path))",
        "create table webhooks (
        tenant text collate \"C\" not null, path text collate \"C\" not null, graph text collate \"C\" not null,
        trigger_name text not null,
        primary key (tenant, path))",
    ),
    both("create index webhooks_of_graph on webhooks (tenant, graph)"),
    // Keys seen, for at least 24 hours. The rows lie about in order of arrival, so that old ones are found without an
    // index of their times. SQLite: only the narrow index of hashes is written all over, in large sorted parts, see
    // inbox/recent.rs. Postgres: each in the transaction of its record.
    each(
        "create table inbox_keys (
        id integer primary key, hash blob not null, execution blob not null, body_sha256 blob not null,
        at_ms bigint not null)",
        "create table inbox_keys (
        id bigint generated always as identity primary key, hash bytea not null, execution bytea not null,
        body_sha256 bytea not null, at_ms bigint not null)",
    ),
    both("create unique index inbox_keys_hash on inbox_keys (hash)"),
    // One row per group commit: the records numbered first_number .. first_number + n - 1, until they are emitted (and,
    // in SQLite, their keys are in inbox_keys; `keys` stands before `data`, so that it is read alone). Postgres: `at_ms`
    // is the oldest record's time.
    each(
        "create table inbox_batches (
        shard bigint not null, first_number bigint not null, n bigint not null, keys blob not null, data blob not null)",
        "create table inbox_batches (
        shard bigint not null, first_number bigint not null, n bigint not null, at_ms bigint not null, data bytea not null)
        with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)",
    ),
    // Postgres: not compressed, which costs more than it saves for rows that live for moments.
    each(
        "create unique index inbox_batches_number on inbox_batches (shard, first_number)",
        "alter table inbox_batches alter column data set storage external",
    ),
    each(
        "select 1",
        "create unique index inbox_batches_number on inbox_batches (shard, first_number)",
    ),
];

/// Graphs are paused, resumed and deleted.
const STATES: &[Ddl] = &[
    both("alter table graphs add column state text not null default 'active'"),
    // When the present pause began.
    both("alter table graphs add column paused_at_ms bigint"),
    // The state after the change.
    both("alter table changes add column state text not null default 'active'"),
    // Of any number of graphs few have parked records that are on their way: the condition is that of `releasing`.
    both(
        "create index graphs_releasing on graphs (epoch)
         where state = 'resuming' or (state = 'deleted' and paused_at_ms is not null)",
    ),
];

/// Graphs read and write users' topics.
const SUBSCRIPTIONS: &[Ddl] = &[
    each(
        "create table subscriptions (
        tenant text not null, graph text not null, trigger_name text not null, topic text not null,
        primary key (tenant, graph, trigger_name))",
        "create table subscriptions (
        tenant text collate \"C\" not null, graph text collate \"C\" not null, trigger_name text collate \"C\" not null,
        topic text collate \"C\" not null,
        primary key (tenant, graph, trigger_name))",
    ),
    both("create index subscriptions_of_topic on subscriptions (topic, tenant, graph, trigger_name)"),
    each(
        "create table topic_writes (
        tenant text not null, graph text not null, topic text not null,
        primary key (tenant, graph, topic))",
        "create table topic_writes (
        tenant text collate \"C\" not null, graph text collate \"C\" not null, topic text collate \"C\" not null,
        primary key (tenant, graph, topic))",
    ),
    // Where the group that reads users' topics starts each of them; `starts` is a JSON array by partition number.
    each(
        "create table topic_starts (
        topic text not null primary key, topic_id text not null, generation bigint not null, starts text not null)",
        "create table topic_starts (
        topic text collate \"C\" not null primary key, topic_id text not null, generation bigint not null, starts text not null)",
    ),
];

const REDRIVES: &[Ddl] = &[
    // What was asked to become of dead letters: `redrive` or `purge`. `request`: by which a second asking is known;
    // `selection`: the sha256 of what it asked for. Its letters are numbered first_number .. first_number + letters - 1.
    each(
        "create table redrives (
        id text not null primary key, tenant text not null, request text not null, kind text not null,
        selection text not null, version text not null, letters bigint not null, first_number bigint not null,
        refused text not null, at_ms bigint not null)",
        "create table redrives (
        id text collate \"C\" not null primary key, tenant text collate \"C\" not null, request text collate \"C\" not null,
        kind text not null, selection text not null, version text not null, letters bigint not null,
        first_number bigint not null, refused text not null, at_ms bigint not null)",
    ),
    both("create unique index redrives_request on redrives (tenant, kind, request)"),
    // The letters, numbered by the counter `redrives` over all redrives. `data`: the record to emit, until it is emitted.
    each(
        "create table redrive_letters (
        number bigint not null primary key, tenant text not null, letter text not null, redrive text not null, data blob)",
        "create table redrive_letters (
        number bigint not null primary key, tenant text collate \"C\" not null, letter text collate \"C\" not null,
        redrive text collate \"C\" not null, data bytea)",
    ),
    both("create index redrive_letters_of on redrive_letters (tenant, letter)"),
];

/// What topic sinks with Avro write, of each version.
const SINK_SCHEMAS: &[Ddl] = &[each(
    "create table sink_schemas (
        version text not null, sink text not null, schema_id bigint not null, schema text not null,
        primary key (version, sink))",
    "create table sink_schemas (
        version text collate \"C\" not null, sink text collate \"C\" not null, schema_id bigint not null, schema text not null,
        primary key (version, sink))",
)];

/// From which time on rows of a partition are written, in databases that order writes by their time.
const WRITE_TIMES: &[Ddl] = &[each(
    "create table write_times (
        topic_id text not null, number bigint not null, base_us bigint not null,
        primary key (topic_id, number))",
    "create table write_times (
        topic_id text collate \"C\" not null, number bigint not null, base_us bigint not null,
        primary key (topic_id, number))",
)];

/// Secrets, names of modules, steps that lost their trust, and why a graph was paused by Weir itself.
const STEPS_OF_GRAPHS: &[Ddl] = &[
    each(
        "create table secrets (
        tenant text not null, name text not null, key_id text not null, sealed blob not null, at_ms bigint not null,
        primary key (tenant, name))",
        "create table secrets (
        tenant text collate \"C\" not null, name text collate \"C\" not null, key_id text not null, sealed bytea not null,
        at_ms bigint not null, primary key (tenant, name))",
    ),
    each(
        "create table module_names (
        tenant text not null, name text not null, version text not null, digest text not null, at_ms bigint not null,
        primary key (tenant, name, version))",
        "create table module_names (
        tenant text collate \"C\" not null, name text collate \"C\" not null, version text collate \"C\" not null,
        digest text collate \"C\" not null, at_ms bigint not null, primary key (tenant, name, version))",
    ),
    each(
        "create table demotions (
        version text not null, step text not null, tenant text not null, graph text not null, digest text not null,
        execution text not null, difference text not null, at_ms bigint not null, primary key (version, step))",
        "create table demotions (
        version text collate \"C\" not null, step text collate \"C\" not null, tenant text collate \"C\" not null,
        graph text collate \"C\" not null, digest text not null, execution text not null, difference text not null,
        at_ms bigint not null, primary key (version, step))",
    ),
    // By the epoch of the pause.
    both("create table pause_reasons (epoch bigint not null primary key, reason text not null, execution text not null)"),
];
