//! The tables, and how an older file is brought up to date.
//!
//! Each entry of `STEPS` is applied once, in order, in one transaction with the number that says so. An entry is never
//! edited once released: a change is a new entry.

/// Statements of each format, oldest first. Format n is what the first n entries make.
pub(crate) const STEPS: &[&[&str]] = &[&[
    // One row per thing that is counted: the epoch of graphs, the last number of each inbox shard.
    "create table counters (name text not null primary key, value bigint not null)",
    "create table modules (digest text not null primary key, bytes blob not null)",
    // The canonical form of a graph under its version; never changed, never doubled.
    "create table versions (version text not null primary key, canonical blob not null)",
    // A graph is a name with a pointer to its active version.
    "create table graphs (
        tenant text not null, graph text not null, version text not null, epoch bigint not null, at_ms bigint not null,
        primary key (tenant, graph))",
    // Everything that ever happened to a graph; `source` is the text that the user wrote.
    "create table changes (
        epoch bigint not null primary key, tenant text not null, graph text not null, kind text not null,
        version text not null, source text not null, at_ms bigint not null)",
    "create index changes_of_graph on changes (tenant, graph, epoch)",
    "create table webhooks (
        tenant text not null, path text not null, graph text not null, trigger_name text not null,
        primary key (tenant, path))",
    "create index webhooks_of_graph on webhooks (tenant, graph)",
    // Keys seen, for at least 24 hours. The rows lie about in order of arrival, so that old ones are found without an
    // index of their times, and only the narrow index of hashes is written all over: in large sorted parts, see
    // inbox/recent.rs. (Postgres: id generated as identity.)
    "create table inbox_keys (
        id integer primary key, hash blob not null, execution blob not null, body_sha256 blob not null,
        at_ms bigint not null)",
    "create unique index inbox_keys_hash on inbox_keys (hash)",
    // One row per group commit: the records numbered first_number .. first_number + n - 1, until they are emitted and
    // their keys are in inbox_keys. `keys` stands before `data`, so that it is read alone.
    "create table inbox_batches (
        shard bigint not null, first_number bigint not null, n bigint not null, keys blob not null, data blob not null)",
    "create unique index inbox_batches_number on inbox_batches (shard, first_number)",
]];
